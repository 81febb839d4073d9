//! What a downloaded file has to be, as people publish it beside downloads.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use flotilla_torrents::{Digest, DigestAlgorithm, DigestError, DigestHasher};
use md5::{Digest as _, Md5};

/// Bytes hashed at a time.
const READ: usize = 1024 * 1024;

/// A digest to compare a file with: `sha256:<hex>`, `sha512:<hex>` or `md5:<hex>`, the digits in
/// either case.
///
/// MD5 is here because publishers still give it; it names and verifies nothing but the file at
/// hand, and protects from accidents alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedDigest {
    /// SHA-256 or SHA-512.
    Strong(Digest),
    /// MD5 (RFC 1321).
    Md5([u8; 16]),
}

/// Text that is no digest to compare with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpectedDigestError {
    /// No algorithm that is known here.
    #[error("expected sha256:<hex>, sha512:<hex> or md5:<hex>")]
    Algorithm,
    /// SHA-256 or SHA-512 with wrong digits.
    #[error(transparent)]
    Strong(DigestError),
    /// MD5 with wrong digits.
    #[error("an md5 digest has 32 hexadecimal digits")]
    Md5,
}

impl FromStr for ExpectedDigest {
    type Err = ExpectedDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim().to_ascii_lowercase();
        if let Some(hex) = text.strip_prefix("md5:") {
            let bytes = HEXLOWER.decode(hex.as_bytes()).ok();
            let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
            return bytes.map(Self::Md5).ok_or(ExpectedDigestError::Md5);
        }
        match text.parse() {
            Ok(digest) => Ok(Self::Strong(digest)),
            Err(DigestError::Algorithm) => Err(ExpectedDigestError::Algorithm),
            Err(error) => Err(ExpectedDigestError::Strong(error)),
        }
    }
}

impl fmt::Display for ExpectedDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strong(digest) => digest.fmt(f),
            Self::Md5(bytes) => write!(f, "md5:{}", HEXLOWER.encode_display(bytes)),
        }
    }
}

/// What a file is.
#[derive(Debug)]
pub(crate) struct FileDigests {
    /// Its SHA-256.
    pub(crate) sha256: Digest,
    /// Its digest of the algorithm that was asked for.
    pub(crate) found: Option<ExpectedDigest>,
}

impl FileDigests {
    /// Those of a file whose SHA-256 is known, if no other algorithm is asked for.
    pub(crate) fn of_known(sha256: Digest, like: Option<&ExpectedDigest>) -> Option<Self> {
        let found = match like {
            None => None,
            Some(ExpectedDigest::Strong(like)) if like.algorithm() == sha256.algorithm() => {
                Some(ExpectedDigest::Strong(sha256.clone()))
            }
            Some(_) => return None,
        };
        Some(Self { sha256, found })
    }
}

/// Hashes the file once for both; blocks.
pub(crate) fn digests_of(path: &Path, like: Option<&ExpectedDigest>) -> io::Result<FileDigests> {
    let mut file = File::open(path)?;
    let mut sha256 = DigestHasher::new(DigestAlgorithm::Sha256);
    let mut md5 = matches!(like, Some(ExpectedDigest::Md5(_))).then(Md5::new);
    let mut sha512 = match like {
        Some(ExpectedDigest::Strong(digest)) if digest.algorithm() == DigestAlgorithm::Sha512 => {
            Some(DigestHasher::new(DigestAlgorithm::Sha512))
        }
        _ => None,
    };
    let mut buffer = vec![0; READ];
    loop {
        let read = file.read(&mut buffer)?;
        let part = buffer.get(..read).unwrap_or_default();
        if part.is_empty() {
            break;
        }
        sha256.update(part);
        if let Some(md5) = &mut md5 {
            md5.update(part);
        }
        if let Some(sha512) = &mut sha512 {
            sha512.update(part);
        }
    }
    let sha256 = sha256.finish();
    let found = match (md5, sha512) {
        (Some(md5), _) => Some(ExpectedDigest::Md5(md5.finalize().into())),
        (None, Some(sha512)) => Some(ExpectedDigest::Strong(sha512.finish())),
        (None, None) => like.map(|_| ExpectedDigest::Strong(sha256.clone())),
    };
    Ok(FileDigests { sha256, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1321 appendix A.5; FIPS 180-2 appendices B.1 and C.1.
    #[test]
    fn abc_has_the_published_digests() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        for text in [
            "md5:900150983cd24fb0d6963f7d28e17f72",
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ] {
            let expected: ExpectedDigest = text.parse().unwrap();
            assert_eq!(expected.to_string(), text);
            let digests = digests_of(&path, Some(&expected)).unwrap();
            assert_eq!(digests.found, Some(expected));
        }
    }

    #[test]
    fn digits_may_be_upper_case_and_nothing_else_may_be_odd() {
        let upper = "MD5:900150983CD24FB0D6963F7D28E17F72";
        assert!(upper.parse::<ExpectedDigest>().is_ok());
        for text in [
            "",
            "md5:",
            "md5:90",
            "sha1:00",
            "900150983cd24fb0d6963f7d28e17f72",
            "sha256:é",
        ] {
            assert!(text.parse::<ExpectedDigest>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_known_digest_spares_reading_unless_another_is_asked_for() {
        let sha256 = DigestHasher::sha256_of(b"abc");
        let of_known = |like: Option<&str>| {
            let like = like.map(|like| like.parse().unwrap());
            FileDigests::of_known(sha256.clone(), like.as_ref())
        };
        assert_eq!(of_known(None).unwrap().found, None);
        let other = format!("sha256:{}", "0".repeat(64));
        let found = of_known(Some(&other)).unwrap().found;
        assert_eq!(found, Some(ExpectedDigest::Strong(sha256.clone())));
        assert!(of_known(Some(&format!("sha512:{}", "0".repeat(128)))).is_none());
        assert!(of_known(Some(&format!("md5:{}", "0".repeat(32)))).is_none());
    }
}
