//! The 20-byte names of BitTorrent: swarms, peers, piece hashes.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha1::{Digest as _, Sha1};

use crate::{ContentId, Geometry};

/// Text that should be 20 bytes in lower-case hexadecimal is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 40 lower-case hexadecimal digits, found {found} characters that are not")]
pub struct IdError {
    /// Length of the text.
    pub found: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 20]);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; 20]) -> Self {
                Self(bytes)
            }

            /// Its bytes, as on the wire.
            pub const fn as_bytes(&self) -> &[u8; 20] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let error = IdError { found: text.len() };
                if text.len() != 40 {
                    return Err(error);
                }
                let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| error.clone())?;
                bytes.try_into().map(Self).map_err(|_| error)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

id! {
    /// Names a swarm on the wire: the SHA-1 of a torrent's `info` (BEP 3), or, before any
    /// byte is hashed, [`InfoHash::of_swarm`].
    InfoHash
}
id! {
    /// Names a peer (BEP 3, BEP 20).
    PeerId
}
id! {
    /// SHA-1 of a piece (BEP 3).
    PieceHash
}

impl InfoHash {
    /// The swarm of `content` cut as `geometry` says; known before its first byte is.
    pub fn of_swarm(content: &ContentId, geometry: &Geometry) -> Self {
        let mut hash = Sha1::new();
        hash.update(b"flotilla swarm 1\0");
        hash.update(content.as_str());
        hash.update([0]);
        hash.update(geometry.length().to_be_bytes());
        hash.update(geometry.piece_length().to_be_bytes());
        Self(hash.finalize().into())
    }
}

impl PeerId {
    /// A peer id of this client (BEP 20, Azureus style).
    pub fn from_random(random: [u8; 12]) -> Self {
        let mut bytes = [0; 20];
        let (client, rest) = bytes.split_at_mut(8);
        client.copy_from_slice(b"-FL0001-");
        rest.copy_from_slice(&random);
        Self(bytes)
    }
}

impl PieceHash {
    /// The hash of `piece`.
    pub fn of(piece: &[u8]) -> Self {
        Self(Sha1::digest(piece).into())
    }
}
