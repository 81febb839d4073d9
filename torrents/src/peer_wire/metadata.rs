//! The info dictionary from peer to peer (BEP 9 `ut_metadata`).

use bytes::Bytes;
use serde::Deserialize;

use crate::bencode::{self, BencodeError, DictWriter};

/// Longest dictionary before the data; stock clients send some fifty bytes.
const MAX_DICT_BYTES: usize = 1024;

/// A message that cannot be read: pass it over, BEP 9 has room for new ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataMessageError {
    /// Not strict bencode of the expected shape.
    #[error("metadata message: {0}")]
    Bencode(#[from] BencodeError),
    /// A type that BEP 9 does not have.
    #[error("metadata message of type {0}, expected 0, 1 or 2")]
    Type(i64),
    /// More data than a piece has.
    #[error("metadata piece of {0} bytes, expected at most {PIECE}", PIECE = MetadataMessage::PIECE)]
    TooLong(usize),
}

/// The payload of a `ut_metadata` message. Numbers are as the peer sent them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataMessage {
    /// Asks for a piece.
    Request {
        /// The piece of the info dictionary.
        piece: u32,
    },
    /// A piece.
    Data {
        /// The piece of the info dictionary.
        piece: u32,
        /// Bytes of the whole dictionary.
        total_size: u32,
        /// The bytes.
        data: Bytes,
    },
    /// The sender does not give this piece.
    Reject {
        /// The piece of the info dictionary.
        piece: u32,
    },
}

impl MetadataMessage {
    /// The extension's name in the extended handshake.
    pub const NAME: &str = "ut_metadata";
    /// Bytes of each piece but the last.
    pub const PIECE: usize = 16 * 1024;

    /// The payload of the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut dict = DictWriter::default();
        let (kind, piece) = match self {
            Self::Request { piece } => (0_u32, *piece),
            Self::Data { piece, .. } => (1, *piece),
            Self::Reject { piece } => (2, *piece),
        };
        dict.integer("msg_type", kind).integer("piece", piece);
        match self {
            Self::Data {
                total_size, data, ..
            } => {
                dict.integer("total_size", *total_size);
                let mut bytes = dict.finish();
                bytes.extend_from_slice(data);
                bytes
            }
            _ => dict.finish(),
        }
    }

    /// Reads the payload of the message; the data is not copied.
    ///
    /// # Errors
    /// Not such a message, or one of a later version of the extension.
    pub fn from_bytes(payload: &Bytes) -> Result<Self, MetadataMessageError> {
        let head = payload.get(..payload.len().min(MAX_DICT_BYTES));
        let length = dict_length(head.unwrap_or_default())?;
        let dict = payload.get(..length).unwrap_or_default();
        let (wire, _): (Wire, _) = bencode::decode(dict, MAX_DICT_BYTES)?;
        let number = |value: i64| {
            let out_of_range = || BencodeError::Shape(format!("{value} is no u32"));
            u32::try_from(value).map_err(|_| out_of_range())
        };
        let piece = number(wire.piece)?;
        match wire.msg_type {
            0 => Ok(Self::Request { piece }),
            1 => {
                let data = payload.slice(length..);
                if data.len() > Self::PIECE {
                    return Err(MetadataMessageError::TooLong(data.len()));
                }
                let total_size = number(wire.total_size.unwrap_or(0))?;
                Ok(Self::Data {
                    piece,
                    total_size,
                    data,
                })
            }
            2 => Ok(Self::Reject { piece }),
            other => Err(MetadataMessageError::Type(other)),
        }
    }
}

/// Bytes of the dictionary at the beginning.
fn dict_length(head: &[u8]) -> Result<usize, BencodeError> {
    match bencode::guard(head, bencode::MAX_DEPTH, MAX_DICT_BYTES) {
        Ok(_) => Ok(head.len()),
        Err(BencodeError::Trailing(at)) => Ok(at),
        Err(error) => Err(error),
    }
}

#[derive(Deserialize)]
struct Wire {
    msg_type: i64,
    piece: i64,
    total_size: Option<i64>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_bep_9_are_read_and_written() {
        let cases: [(MetadataMessage, &[u8]); 3] = [
            (
                MetadataMessage::Request { piece: 0 },
                b"d8:msg_typei0e5:piecei0ee",
            ),
            (
                MetadataMessage::Data {
                    piece: 0,
                    total_size: 34_256,
                    data: Bytes::from_static(b"xxxxxxxx"),
                },
                b"d8:msg_typei1e5:piecei0e10:total_sizei34256eexxxxxxxx",
            ),
            (
                MetadataMessage::Reject { piece: 0 },
                b"d8:msg_typei2e5:piecei0ee",
            ),
        ];
        for (message, bytes) in cases {
            assert_eq!(message.to_bytes(), bytes);
            let read = MetadataMessage::from_bytes(&Bytes::from_static(bytes));
            assert_eq!(read, Ok(message));
        }
    }

    #[test]
    fn what_is_too_long_of_another_type_or_out_of_range_is_refused() {
        let long = [&b"d8:msg_typei1e5:piecei0ee"[..], &[0; 16 * 1024 + 1]].concat();
        for bytes in [
            long,
            b"d8:msg_typei3e5:piecei0ee".to_vec(),
            b"d8:msg_typei0e5:piecei-1ee".to_vec(),
            b"d5:piecei0ee".to_vec(),
            b"d8:msg_typei0e5:piecei0e".to_vec(),
        ] {
            assert!(MetadataMessage::from_bytes(&bytes.into()).is_err());
        }
    }

    proptest! {
        #[test]
        fn round_trip(kind in 0_u8..3, piece: u32, total_size: u32, data: Vec<u8>) {
            let message = match kind {
                0 => MetadataMessage::Request { piece },
                1 => MetadataMessage::Data { piece, total_size, data: data.into() },
                _ => MetadataMessage::Reject { piece },
            };
            let bytes = Bytes::from(message.to_bytes());
            prop_assert_eq!(MetadataMessage::from_bytes(&bytes), Ok(message));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = MetadataMessage::from_bytes(&bytes.into());
        }
    }
}
