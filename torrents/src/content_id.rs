//! What a swarm delivers.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use crate::Digest;

const URL_PREFIX: &str = "url-sha256:";

/// Names content: a blob by its digest, anything else behind a URL by what the source says
/// of its present version.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId(String);

/// Text is not a content id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a digest or {URL_PREFIX}<64 hex digits>")]
pub struct ContentIdError;

impl ContentId {
    /// A blob.
    pub fn blob(digest: &Digest) -> Self {
        Self(digest.to_string())
    }

    /// What `url` delivers while its validator (`ETag`, else `Last-Modified`, else empty;
    /// RFC 9110 section 8.8) and length stay the same.
    pub fn url(url: &str, validator: &str, length: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(url);
        hash.update([0]);
        hash.update(validator);
        hash.update([0]);
        hash.update(length.to_be_bytes());
        Self(format!("{URL_PREFIX}{}", HEXLOWER.encode(&hash.finalize())))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A file name for it.
    pub fn file_stem(&self) -> String {
        self.0.replace(':', "-")
    }

    /// The digest, when the content is a blob.
    pub fn digest(&self) -> Option<Digest> {
        self.0.parse().ok()
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ContentId {
    type Err = ContentIdError;

    fn from_str(text: &str) -> Result<Self, ContentIdError> {
        let checked = match text.strip_prefix(URL_PREFIX) {
            Some(hex) => format!("sha256:{hex}"),
            None => text.to_owned(),
        };
        checked.parse::<Digest>().map_err(|_| ContentIdError)?;
        Ok(Self(text.to_owned()))
    }
}

impl Serialize for ContentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ContentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
