//! What the URL of a file says about its name.

use std::path::{Component, Path};

use url::Url;

/// Longest file name of Linux's file systems, in bytes.
const MAX_NAME_LENGTH: usize = 255;
/// Room for what is put around the name while the file is made.
const RESERVED: usize = 16;

/// The name that a URL gives its file: the last part of its path, decoded. None when there is
/// none that is safe as a file name.
pub fn remote_name(url: &Url) -> Option<String> {
    let last = url.path_segments()?.next_back()?;
    safe_name(last)
}

/// A percent-encoded name decoded, if it is one plain file name.
pub(crate) fn safe_name(encoded: &str) -> Option<String> {
    let name = percent_encoding::percent_decode_str(encoded)
        .decode_utf8()
        .ok()?
        .into_owned();
    let mut components = Path::new(&name).components();
    let plain = matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(only)), None) if only == name.as_str()
    );
    let short = name.len() <= MAX_NAME_LENGTH - RESERVED;
    let printable = !name.chars().any(char::is_control);
    (plain && short && printable).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_part_of_the_path_is_the_name() {
        let name = |text: &str| remote_name(&Url::parse(text).unwrap());
        assert_eq!(name("http://h/a/b.bin?x=/y#z"), Some("b.bin".to_owned()));
        assert_eq!(name("http://h/a%20b%C3%B6"), Some("a bö".to_owned()));
        for unsafe_one in [
            "http://h/",
            "http://h",
            "http://h/a/",
            "http://h/%2e%2e%2fetc",
            "http://h/a%2Fb",
            "http://h/%00",
            "http://h/%0a",
            "http://h/%ff",
        ] {
            assert_eq!(name(unsafe_one), None, "{unsafe_one}");
        }
        assert_eq!(name(&format!("http://h/{}", "a".repeat(250))), None);
    }

    proptest! {
        #[test]
        fn a_safe_name_is_one_component(encoded: String) {
            if let Some(name) = safe_name(&encoded) {
                let joined = Path::new("dir").join(&name);
                prop_assert_eq!(joined.parent(), Some(Path::new("dir")));
                prop_assert!(name != ".." && name != "." && !name.contains('/'));
            }
        }
    }
}
