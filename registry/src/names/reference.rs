//! Tags, and references to manifests: a tag or a digest.

use std::fmt;
use std::str::FromStr;

use flotilla_torrents::Digest;

/// OCI distribution-spec, "Pulling manifests".
const MAX_LENGTH: usize = 128;

/// The tag of an image: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (OCI distribution-spec, "Pulling
/// manifests").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// What names a manifest within a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// Whatever the tag leads to at the moment.
    Tag(Tag),
    /// These very bytes.
    Digest(Digest),
}

/// Text is not a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reference {0:?} is neither a tag nor a digest")]
pub struct ReferenceError(String);

impl Tag {
    /// The tag that is meant when none is written.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_tag = text.len() <= MAX_LENGTH
            && text.bytes().next().is_some_and(is_word)
            && text
                .bytes()
                .all(|byte| is_word(byte) || b".-".contains(&byte));
        if is_tag {
            Ok(Self(text.to_owned()))
        } else {
            Err(ReferenceError(text.chars().take(MAX_LENGTH).collect()))
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// A tag has no colon and a digest has one: there is no text that is both.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(digest) => Ok(Self::Digest(digest)),
            Err(_) => text.parse().map(Self::Tag),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_word_of_few_characters() {
        let longest = "t".repeat(MAX_LENGTH);
        for tag in ["1.0", "_", "latest-2_x", "A..b", &longest] {
            assert_eq!(tag.parse::<Tag>().unwrap().as_str(), tag);
        }
        let longer = "t".repeat(MAX_LENGTH + 1);
        for other in [
            "", ".", "..", ".1", "-1", "a/b", "a:b", "a%2e", "\u{e9}", &longer,
        ] {
            assert!(other.parse::<Tag>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_reference_is_a_tag_or_a_digest() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let read: Reference = digest.parse().unwrap();
        assert_eq!(read, Reference::Digest(digest.parse().unwrap()));
        assert_eq!(read.to_string(), digest);
        let read: Reference = "1.0".parse().unwrap();
        assert_eq!(read, Reference::Tag("1.0".parse().unwrap()));
        for other in ["", "sha256:00", &digest.to_uppercase(), "a@b"] {
            assert!(other.parse::<Reference>().is_err(), "{other}");
        }
    }
}
