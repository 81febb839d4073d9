//! The name of what a swarm brings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Digest, DigestError};

/// Names content that has no digest: a URL as it was at one time.
const URL_PREFIX: &str = "url-";

/// Text that names no content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("content id is neither a digest nor url-sha256:<hex>: {0}")]
#[non_exhaustive]
pub struct ContentIdError(#[from] DigestError);

/// Text that names the content of a swarm: `sha256:<hex>` or `sha512:<hex>` for a blob,
/// `url-sha256:<hex>` for a file at a URL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(String);

impl ContentId {
    /// The content with this digest.
    pub fn blob(digest: &Digest) -> Self {
        Self(digest.to_string())
    }

    /// The `length` bytes at `url` while the source gives them this `validator`: the `ETag`, else
    /// `Last-Modified`, else nothing (RFC 9110 section 8.8).
    pub fn url(url: &str, validator: &str, length: u64) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(url);
        hasher.update([0]);
        hasher.update(validator);
        hasher.update([0]);
        hasher.update(length.to_be_bytes());
        Self(format!(
            "{URL_PREFIX}{}",
            Digest::sha256_from(hasher.finalize().into())
        ))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text as a file name: `-` for `:`.
    pub fn file_stem(&self) -> String {
        self.0.replace(':', "-")
    }

    /// The digest that the whole must have; none for a URL.
    pub fn digest(&self) -> Option<Digest> {
        self.0.parse().ok()
    }
}

impl FromStr for ContentId {
    type Err = ContentIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(URL_PREFIX) {
            // Only SHA-256 names a URL.
            Some(rest) if rest.starts_with("sha512:") => return Err(DigestError::Algorithm.into()),
            Some(rest) => rest.parse::<Digest>()?,
            None => text.parse::<Digest>()?,
        };
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

impl Serialize for ContentId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ContentId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::DigestHasher;

    #[test]
    fn a_blob_is_named_by_its_digest() {
        let digest = DigestHasher::sha256_of(b"abc");
        let content = ContentId::blob(&digest);
        assert_eq!(content.as_str(), digest.to_string());
        assert_eq!(content.digest(), Some(digest));
        assert!(content.file_stem().starts_with("sha256-ba7816bf"));
    }

    #[test]
    fn a_url_has_no_digest_and_changes_with_its_validator() {
        let content = ContentId::url("https://example.org/a", "\"1\"", 5);
        assert_eq!(content.digest(), None);
        assert!(content.file_stem().starts_with("url-sha256-"));
        assert_ne!(content, ContentId::url("https://example.org/a", "\"2\"", 5));
        assert_ne!(content, ContentId::url("https://example.org/a", "\"1\"", 6));
    }

    #[test]
    fn paths_are_no_content() {
        for text in [
            "",
            "../../etc/passwd",
            "url-",
            "url-sha512:00",
            "url-url-sha256:00",
            "sha256:",
        ] {
            assert!(text.parse::<ContentId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(url: String, validator: String, length: u64) {
            let content = ContentId::url(&url, &validator, length);
            prop_assert_eq!(content.to_string().parse(), Ok(content.clone()));
            let json = serde_json::to_string(&content).unwrap();
            prop_assert_eq!(serde_json::from_str::<ContentId>(&json).unwrap(), content);
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<ContentId>();
            let _ = format!("url-{text}").parse::<ContentId>();
        }
    }
}
