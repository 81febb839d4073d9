//! Cuts messages out of what a connection received.

use bytes::{Buf as _, Bytes, BytesMut, TryGetError};

use super::message::{Message, id};

/// Bytes before each message: its length (BEP 3).
const LENGTH_PREFIX: usize = 4;

/// A peer that does not keep to the protocol: drop it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerWireError {
    /// A message beyond the cap.
    #[error("message of {found} bytes, expected at most {most}")]
    TooLong {
        /// The cap.
        most: u32,
        /// Bytes announced.
        found: u32,
    },
    /// A message whose payload has another length than its id asks for.
    #[error("message {id} with a payload of {length} bytes")]
    PayloadLength {
        /// The message id.
        id: u8,
        /// Bytes of its payload.
        length: usize,
    },
}

/// Cuts messages out of received bytes. Data of blocks is not copied: it shares the buffer.
#[derive(Clone, Debug)]
pub struct MessageDecoder {
    max_frame: u32,
}

impl MessageDecoder {
    /// A decoder for messages of at most `max_frame` bytes, their length prefix not counted: a
    /// block and 9 bytes, or a bitfield and 1 byte, whichever is longer.
    pub fn new(max_frame: u32) -> Self {
        Self { max_frame }
    }

    /// Takes the next message from the front of `received`. `None`: it is not complete yet; room for the
    /// rest of it is reserved.
    ///
    /// # Errors
    /// The peer does not keep to the protocol; what it sent is of no use any more.
    pub fn decode(&mut self, received: &mut BytesMut) -> Result<Option<Message>, PeerWireError> {
        let Some(prefix) = received.first_chunk::<LENGTH_PREFIX>() else {
            return Ok(None);
        };
        let announced = u32::from_be_bytes(*prefix);
        // Before anything is reserved: the length is the peer's word.
        if announced > self.max_frame {
            return Err(PeerWireError::TooLong {
                most: self.max_frame,
                found: announced,
            });
        }
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        let whole = length.saturating_add(LENGTH_PREFIX);
        if received.len() < whole {
            received.reserve(whole - received.len());
            return Ok(None);
        }
        let mut frame = received.split_to(whole).freeze();
        frame.advance(LENGTH_PREFIX);
        parse(frame).map(Some)
    }
}

fn parse(mut frame: Bytes) -> Result<Message, PeerWireError> {
    let Ok(message_id) = frame.try_get_u8() else {
        return Ok(Message::KeepAlive);
    };
    let length = frame.len();
    let wrong = |_: TryGetError| PeerWireError::PayloadLength {
        id: message_id,
        length,
    };
    let mut number = || frame.try_get_u32().map_err(wrong);
    let message = match message_id {
        id::CHOKE => Message::Choke,
        id::UNCHOKE => Message::Unchoke,
        id::INTERESTED => Message::Interested,
        id::NOT_INTERESTED => Message::NotInterested,
        id::HAVE => Message::Have(number()?),
        id::BITFIELD => return Ok(Message::Bitfield(frame)),
        id::REQUEST => Message::Request {
            index: number()?,
            begin: number()?,
            length: number()?,
        },
        id::PIECE => {
            let (index, begin) = (number()?, number()?);
            return Ok(Message::Piece {
                index,
                begin,
                data: frame,
            });
        }
        id::CANCEL => Message::Cancel {
            index: number()?,
            begin: number()?,
            length: number()?,
        },
        id::PORT => Message::Port(frame.try_get_u16().map_err(wrong)?),
        id::SUGGEST => Message::Suggest(number()?),
        id::HAVE_ALL => Message::HaveAll,
        id::HAVE_NONE => Message::HaveNone,
        id::REJECT => Message::Reject {
            index: number()?,
            begin: number()?,
            length: number()?,
        },
        id::ALLOWED_FAST => Message::AllowedFast(number()?),
        id::EXTENDED => {
            let id = frame.try_get_u8().map_err(wrong)?;
            return Ok(Message::Extended { id, payload: frame });
        }
        id => return Ok(Message::Unknown { id }),
    };
    if frame.is_empty() {
        Ok(message)
    } else {
        Err(PeerWireError::PayloadLength {
            id: message_id,
            length,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::encode_piece_header;
    use super::*;

    const MAX: u32 = 16 * 1024 + 9;

    fn decode_all(bytes: &[u8]) -> Result<Vec<Message>, PeerWireError> {
        let mut decoder = MessageDecoder::new(MAX);
        let mut received = BytesMut::from(bytes);
        std::iter::from_fn(|| decoder.decode(&mut received).transpose()).collect()
    }

    #[test]
    fn the_bytes_are_those_of_the_specs() {
        let block = (1, 0x4000, 0x4000);
        let (index, begin, length) = block;
        let cases: [(Message, &[u8]); 12] = [
            (Message::KeepAlive, b"\0\0\0\0"),
            (Message::Unchoke, b"\0\0\0\x01\x01"),
            (Message::Have(258), b"\0\0\0\x05\x04\0\0\x01\x02"),
            (
                Message::Bitfield(Bytes::from_static(b"\xf0")),
                b"\0\0\0\x02\x05\xf0",
            ),
            (
                Message::Request {
                    index,
                    begin,
                    length,
                },
                b"\0\0\0\x0d\x06\0\0\0\x01\0\0\x40\0\0\0\x40\0",
            ),
            (
                Message::Piece {
                    index,
                    begin,
                    data: Bytes::from_static(b"xy"),
                },
                b"\0\0\0\x0b\x07\0\0\0\x01\0\0\x40\0xy",
            ),
            (Message::Port(6881), b"\0\0\0\x03\x09\x1a\xe1"),
            (Message::HaveAll, b"\0\0\0\x01\x0e"),
            (Message::HaveNone, b"\0\0\0\x01\x0f"),
            (
                Message::Reject {
                    index,
                    begin,
                    length,
                },
                b"\0\0\0\x0d\x10\0\0\0\x01\0\0\x40\0\0\0\x40\0",
            ),
            (Message::AllowedFast(1), b"\0\0\0\x05\x11\0\0\0\x01"),
            (
                Message::Extended {
                    id: 0,
                    payload: Bytes::from_static(b"de"),
                },
                b"\0\0\0\x04\x14\0de",
            ),
        ];
        for (message, bytes) in cases {
            let mut out = BytesMut::new();
            message.encode(&mut out);
            assert_eq!(out, bytes, "{message:?}");
            assert_eq!(decode_all(bytes), Ok(vec![message]));
        }
    }

    #[test]
    fn a_piece_header_and_its_data_are_a_piece_message() {
        let bytes = [&encode_piece_header(3, 4, 5)[..], b"hello"].concat();
        let data = Bytes::from_static(b"hello");
        assert_eq!(
            decode_all(&bytes),
            Ok(vec![Message::Piece {
                index: 3,
                begin: 4,
                data
            }])
        );
    }

    #[test]
    fn a_length_beyond_the_cap_is_refused_before_anything_is_reserved() {
        let mut received = BytesMut::from(&b"\xff\xff\xff\xff"[..]);
        let capacity = received.capacity();
        let refused = MessageDecoder::new(MAX).decode(&mut received);
        assert_eq!(
            refused,
            Err(PeerWireError::TooLong {
                most: MAX,
                found: u32::MAX
            })
        );
        assert_eq!(received.capacity(), capacity);
    }

    #[test]
    fn payloads_of_another_length_are_refused_and_unknown_ids_are_not() {
        for bytes in [
            &b"\0\0\0\x02\x00x"[..],
            b"\0\0\0\x04\x04abc",
            b"\0\0\0\x06\x04abcde",
            b"\0\0\0\x01\x07",
            b"\0\0\0\x01\x14",
            b"\0\0\0\x02\x09a",
        ] {
            let refused = decode_all(bytes);
            assert!(
                matches!(refused, Err(PeerWireError::PayloadLength { .. })),
                "{refused:?}"
            );
        }
        assert_eq!(
            decode_all(b"\0\0\0\x03\x15ab"),
            Ok(vec![Message::Unknown { id: 21 }])
        );
    }

    #[test]
    fn the_data_of_a_block_is_not_copied() {
        let mut received = BytesMut::from(&b"\0\0\0\x0b\x07\0\0\0\x01\0\0\x40\0xy"[..]);
        let at = received[13..].as_ptr();
        let message = MessageDecoder::new(MAX).decode(&mut received).unwrap();
        assert!(matches!(message, Some(Message::Piece { data, .. }) if data.as_ptr() == at));
    }

    fn messages() -> impl Strategy<Value = Message> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        let block = || (any::<u32>(), any::<u32>(), any::<u32>());
        prop_oneof![
            prop::sample::select(vec![
                Message::KeepAlive,
                Message::Choke,
                Message::Unchoke,
                Message::Interested,
                Message::NotInterested,
                Message::HaveAll,
                Message::HaveNone,
                Message::Unknown { id: 0x15 },
            ]),
            any::<u32>().prop_map(Message::Have),
            any::<u32>().prop_map(Message::Suggest),
            any::<u32>().prop_map(Message::AllowedFast),
            any::<u16>().prop_map(Message::Port),
            bytes().prop_map(Message::Bitfield),
            block().prop_map(|(index, begin, length)| Message::Request {
                index,
                begin,
                length
            }),
            block().prop_map(|(index, begin, length)| Message::Cancel {
                index,
                begin,
                length
            }),
            block().prop_map(|(index, begin, length)| Message::Reject {
                index,
                begin,
                length
            }),
            (any::<u32>(), any::<u32>(), bytes()).prop_map(|(index, begin, data)| Message::Piece {
                index,
                begin,
                data
            }),
            (any::<u8>(), bytes()).prop_map(|(id, payload)| Message::Extended { id, payload }),
        ]
    }

    proptest! {
        #[test]
        fn messages_survive_any_cutting_of_the_stream(
            sent in prop::collection::vec(messages(), 0..20), step in 1_usize..50
        ) {
            let mut bytes = BytesMut::new();
            sent.iter().for_each(|message| message.encode(&mut bytes));
            let mut decoder = MessageDecoder::new(MAX);
            let mut received = BytesMut::new();
            let mut seen = Vec::new();
            for part in bytes.chunks(step) {
                received.extend_from_slice(part);
                while let Some(message) = decoder.decode(&mut received).unwrap() {
                    seen.push(message);
                }
            }
            prop_assert_eq!(seen, sent);
            prop_assert!(received.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode_all(&bytes);
        }

        #[test]
        fn any_payload_is_read_or_refused(id: u8, payload: Vec<u8>) {
            let mut frame = BytesMut::new();
            frame.extend_from_slice(&(payload.len() as u32 + 1).to_be_bytes());
            frame.extend_from_slice(&[id]);
            frame.extend_from_slice(&payload);
            let _ = decode_all(&frame);
        }
    }
}
