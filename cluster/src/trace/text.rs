//! What may be shown of requests.

use url::Url;

use crate::redact::redacted;

/// Longest text of an attribute, in characters.
const MAX_LENGTH: usize = 255;

/// A reason as it may be shown: URLs in it without user, password and query.
pub fn harmless(reason: &str) -> String {
    let words = reason.split(' ').map(|word| {
        if !word.contains("://") {
            return word.to_owned();
        }
        match Url::parse(word) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => redacted(&url),
            _ => "…".to_owned(),
        }
    });
    let words: Vec<String> = words.collect();
    words.join(" ").chars().take(MAX_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_tells_no_password() {
        assert_eq!(
            harmless("supernode http://u:p@a:8001/?k=v cannot be reached: refused"),
            "supernode http://a:8001/ cannot be reached: refused"
        );
        assert_eq!(harmless("see (http://u:p@a:8001)"), "see …");
    }
}
