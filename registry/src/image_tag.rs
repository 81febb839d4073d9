//! Tags of images.

/// OCI distribution-spec, "Pulling manifests".
const MAX_LENGTH: usize = 128;

/// Whether `text` can be a tag (OCI distribution-spec, "Pulling manifests").
pub fn is_image_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_LENGTH
        && text.bytes().next().is_some_and(is_word)
        && text
            .bytes()
            .all(|byte| is_word(byte) || b".-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_word_of_few_characters() {
        let longest = "t".repeat(MAX_LENGTH);
        for tag in ["1.0", "_", "latest-2_x", &longest] {
            assert!(is_image_tag(tag), "{tag}");
        }
        let longer = "t".repeat(MAX_LENGTH + 1);
        for other in ["", ".1", "-1", "a/b", "a:b", "\u{e9}", &longer] {
            assert!(!is_image_tag(other), "{other}");
        }
    }
}
