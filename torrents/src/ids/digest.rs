//! The OCI content digest: what a whole layer is verified with.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// Text that is no digest this program can check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// The part before the colon names no registered algorithm (OCI image-spec, descriptor.md).
    #[error("digest without a known algorithm, expected sha256:<hex> or sha512:<hex>")]
    Algorithm,
    /// The encoded part has another length.
    #[error("{algorithm} digest with {found} digits, expected {expected}")]
    Length {
        /// The digest's algorithm.
        algorithm: DigestAlgorithm,
        /// Digits a digest of this algorithm has.
        expected: usize,
        /// Digits found.
        found: usize,
    },
    /// The encoded part holds something other than lower-case hexadecimal digits.
    #[error("{0} digest must be lower-case hexadecimal digits")]
    Digits(DigestAlgorithm),
}

/// The registered digest algorithms (OCI image-spec, descriptor.md, "Registered Algorithms").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DigestAlgorithm {
    /// SHA-256: every registry uses it.
    Sha256,
    /// SHA-512: permitted, rare.
    Sha512,
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Value {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

/// A content digest (OCI image-spec, descriptor.md, "Digests").
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Value);

impl Digest {
    /// The digest with these bytes, computed elsewhere.
    pub fn sha256_from(bytes: [u8; 32]) -> Self {
        Self(Value::Sha256(bytes))
    }

    /// Which algorithm made it.
    pub fn algorithm(&self) -> DigestAlgorithm {
        match self.0 {
            Value::Sha256(_) => DigestAlgorithm::Sha256,
            Value::Sha512(_) => DigestAlgorithm::Sha512,
        }
    }

    /// The bytes, 32 or 64.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Value::Sha256(bytes) => bytes,
            Value::Sha512(bytes) => bytes,
        }
    }

    /// The encoded part: lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(self.as_bytes())
    }

    /// The digest of `bytes` by this digest's algorithm, to compare with it.
    pub fn of_same_algorithm(&self, bytes: &[u8]) -> Self {
        let mut hasher = DigestHasher::new(self.algorithm());
        hasher.update(bytes);
        hasher.finish()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}",
            self.algorithm(),
            HEXLOWER.encode_display(self.as_bytes())
        )
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(hex) = text.strip_prefix("sha256:") {
            decode(hex, DigestAlgorithm::Sha256).map(|bytes| Self(Value::Sha256(bytes)))
        } else if let Some(hex) = text.strip_prefix("sha512:") {
            decode(hex, DigestAlgorithm::Sha512).map(|bytes| Self(Value::Sha512(bytes)))
        } else {
            Err(DigestError::Algorithm)
        }
    }
}

// The spec wants lower case only: two spellings of one digest would be two cache entries.
fn decode<const N: usize>(hex: &str, algorithm: DigestAlgorithm) -> Result<[u8; N], DigestError> {
    if hex.len() != 2 * N {
        return Err(DigestError::Length {
            algorithm,
            expected: 2 * N,
            found: hex.len(),
        });
    }
    let mut bytes = [0; N];
    HEXLOWER
        .decode_mut(hex.as_bytes(), &mut bytes)
        .map_err(|_| DigestError::Digits(algorithm))?;
    Ok(bytes)
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a digest from bytes that come in parts.
#[derive(Clone)]
pub struct DigestHasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    // Boxed: twice the size of the one that is always used.
    Sha512(Box<Sha512>),
}

impl DigestHasher {
    /// Starts a digest.
    pub fn new(algorithm: DigestAlgorithm) -> Self {
        Self(match algorithm {
            DigestAlgorithm::Sha256 => State::Sha256(Sha256::new()),
            DigestAlgorithm::Sha512 => State::Sha512(Box::default()),
        })
    }

    /// Takes the next part.
    pub fn update(&mut self, part: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(part),
            State::Sha512(hasher) => hasher.update(part),
        }
    }

    /// The digest of all parts.
    pub fn finish(self) -> Digest {
        Digest(match self.0 {
            State::Sha256(hasher) => Value::Sha256(hasher.finalize().into()),
            State::Sha512(hasher) => Value::Sha512(hasher.finalize().into()),
        })
    }

    /// The SHA-256 digest of bytes that are all here.
    pub fn sha256_of(bytes: &[u8]) -> Digest {
        Digest::sha256_from(Sha256::digest(bytes).into())
    }
}

impl fmt::Debug for DigestHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestHasher")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// FIPS 180-2, appendices B.1 and C.1.
    #[test]
    fn digests_of_abc_are_the_published_ones() {
        let sha256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(DigestHasher::sha256_of(b"abc").to_string(), sha256);
        let sha512 = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                      2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        let expected: Digest = sha512.parse().unwrap();
        assert_eq!(expected.of_same_algorithm(b"abc"), expected);
        assert_eq!(expected.to_string(), sha512);
    }

    #[test]
    fn upper_case_other_algorithms_and_other_lengths_are_refused() {
        let refused = |text: String| text.parse::<Digest>().unwrap_err();
        assert!(matches!(
            refused(format!("sha256:{}", "A".repeat(64))),
            DigestError::Digits(_)
        ));
        assert!(matches!(
            refused(format!("md5:{}", "a".repeat(32))),
            DigestError::Algorithm
        ));
        assert!(matches!(
            refused("sha256:abc".to_owned()),
            DigestError::Length { found: 3, .. }
        ));
        assert!(matches!(
            refused(format!("sha256:{}", "é".repeat(32))),
            DigestError::Digits(_)
        ));
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(bytes: [u8; 32]) {
            let digest = Digest::sha256_from(bytes);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest.clone()));
            let json = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<Digest>();
            let _ = format!("sha256:{text}").parse::<Digest>();
        }

        #[test]
        fn parts_give_the_digest_of_the_whole(parts: Vec<Vec<u8>>) {
            let mut hasher = DigestHasher::new(DigestAlgorithm::Sha256);
            parts.iter().for_each(|part| hasher.update(part));
            prop_assert_eq!(hasher.finish(), DigestHasher::sha256_of(&parts.concat()));
        }
    }
}
