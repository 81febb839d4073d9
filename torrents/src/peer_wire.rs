//! The peer wire protocol: BEP 3, fast extension (BEP 6), extension protocol (BEP 10).

use std::collections::BTreeMap;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::bencode::{self, BencodeError};
use crate::{InfoHash, PeerId};

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
/// BEP 10: bit 20 from the right of the reserved bytes.
const EXTENDED: (usize, u8) = (5, 0x10);
/// BEP 6: bit 3 of the last reserved byte.
const FAST: (usize, u8) = (7, 0x04);
/// An extended handshake is a few hundred bytes; strangers name their extensions too.
const LARGEST_EXTENDED: usize = 16 * 1024;

/// Bytes from a peer break the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerWireError {
    /// Something else than BitTorrent.
    #[error("not the BitTorrent protocol")]
    Protocol,
    /// A frame larger than any message.
    #[error("message of {length} bytes, at most {cap} are read")]
    TooLong {
        /// Announced bytes.
        length: u32,
        /// The cap.
        cap: u32,
    },
    /// A message with too many or too few bytes.
    #[error("message {id} with {length} bytes")]
    Length {
        /// The message id.
        id: u8,
        /// Bytes behind the id.
        length: usize,
    },
    /// An extended handshake that is no dictionary as BEP 10 has it.
    #[error("extended handshake: {0}")]
    Extended(String),
}

impl From<BencodeError> for PeerWireError {
    fn from(error: BencodeError) -> Self {
        Self::Extended(error.to_string())
    }
}

/// The first 68 bytes of a connection (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The swarm.
    pub info_hash: InfoHash,
    /// The sender.
    pub peer_id: PeerId,
    /// The sender speaks the extension protocol (BEP 10).
    pub extended: bool,
    /// The sender speaks the fast extension (BEP 6).
    pub fast: bool,
}

impl Handshake {
    /// Bytes on the wire.
    pub const LENGTH: usize = 68;

    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut reserved = [0_u8; 8];
        for (set, (byte, bit)) in [(self.extended, EXTENDED), (self.fast, FAST)] {
            if set && let Some(byte) = reserved.get_mut(byte) {
                *byte |= bit;
            }
        }
        let parts: [&[u8]; 4] =
            [PROTOCOL, &reserved, self.info_hash.as_bytes(), self.peer_id.as_bytes()];
        let mut bytes = [0; Self::LENGTH];
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }

    /// Reads the bytes on the wire.
    ///
    /// # Errors
    /// Another protocol.
    pub fn decode(bytes: &[u8; Self::LENGTH]) -> Result<Self, PeerWireError> {
        let take = || {
            let (protocol, rest) = bytes.split_first_chunk::<20>()?;
            let (reserved, rest) = rest.split_first_chunk::<8>()?;
            let (info_hash, rest) = rest.split_first_chunk::<20>()?;
            Some((protocol, reserved, info_hash, rest.first_chunk::<20>()?))
        };
        let (protocol, reserved, info_hash, peer_id) = take().ok_or(PeerWireError::Protocol)?;
        if protocol != PROTOCOL {
            return Err(PeerWireError::Protocol);
        }
        let is_set = |(byte, bit): (usize, u8)| reserved.get(byte).is_some_and(|b| b & bit != 0);
        Ok(Self {
            info_hash: InfoHash::from_bytes(*info_hash),
            peer_id: PeerId::from_bytes(*peer_id),
            extended: is_set(EXTENDED),
            fast: is_set(FAST),
        })
    }
}

/// A message after the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are those of BEP 3: piece index, byte offset, byte count")]
pub enum Message {
    /// Keeps the connection open.
    KeepAlive,
    /// Requests will not be answered.
    Choke,
    /// Requests will be answered.
    Unchoke,
    /// The sender wants pieces.
    Interested,
    /// The sender wants nothing.
    NotInterested,
    /// The sender has this piece.
    Have(u32),
    /// The pieces that the sender has.
    Bitfield(Bytes),
    /// Asks for a block.
    Request { index: u32, begin: u32, length: u32 },
    /// A block.
    Piece { index: u32, begin: u32, data: Bytes },
    /// Takes a request back.
    Cancel { index: u32, begin: u32, length: u32 },
    /// Port of a DHT node (BEP 5); not used.
    Port(u16),
    /// This piece is best asked for (BEP 6).
    Suggest(u32),
    /// The sender has every piece (BEP 6).
    HaveAll,
    /// The sender has no piece (BEP 6).
    HaveNone,
    /// A request that will not be answered (BEP 6).
    Reject { index: u32, begin: u32, length: u32 },
    /// This piece may be asked for while choked (BEP 6).
    AllowedFast(u32),
    /// A message of the extension protocol (BEP 10); id 0 is its handshake.
    Extended { id: u8, payload: Bytes },
    /// A message with an id that is not known; to be ignored.
    Unknown { id: u8 },
}

/// Length, id, index and begin of a `piece` message; its data follows.
pub fn encode_piece_header(index: u32, begin: u32, data_length: u32) -> [u8; 13] {
    let mut header = [0; 13];
    let mut rest = header.as_mut_slice();
    rest.put_u32(data_length.saturating_add(9));
    rest.put_u8(7);
    rest.put_u32(index);
    rest.put_u32(begin);
    header
}

impl Message {
    /// Appends the message with its length prefix.
    pub fn encode(&self, to: &mut BytesMut) {
        let start = to.len();
        to.put_u32(0);
        match self {
            Self::KeepAlive => {}
            Self::Choke => to.put_u8(0),
            Self::Unchoke => to.put_u8(1),
            Self::Interested => to.put_u8(2),
            Self::NotInterested => to.put_u8(3),
            Self::Have(index) => put_numbers(to, 4, &[*index]),
            Self::Bitfield(bits) => {
                to.put_u8(5);
                to.put_slice(bits);
            }
            Self::Request { index, begin, length } => put_numbers(to, 6, &[*index, *begin, *length]),
            Self::Piece { index, begin, data } => {
                put_numbers(to, 7, &[*index, *begin]);
                to.put_slice(data);
            }
            Self::Cancel { index, begin, length } => put_numbers(to, 8, &[*index, *begin, *length]),
            Self::Port(port) => {
                to.put_u8(9);
                to.put_u16(*port);
            }
            Self::Suggest(index) => put_numbers(to, 13, &[*index]),
            Self::HaveAll => to.put_u8(14),
            Self::HaveNone => to.put_u8(15),
            Self::Reject { index, begin, length } => put_numbers(to, 16, &[*index, *begin, *length]),
            Self::AllowedFast(index) => put_numbers(to, 17, &[*index]),
            Self::Extended { id, payload } => {
                to.put_u8(20);
                to.put_u8(*id);
                to.put_slice(payload);
            }
            Self::Unknown { id } => to.put_u8(*id),
        }
        let length = u32::try_from(to.len() - start - 4).unwrap_or(u32::MAX);
        if let Some(prefix) = to.get_mut(start..start + 4) {
            prefix.copy_from_slice(&length.to_be_bytes());
        }
    }

    fn decode(mut frame: Bytes) -> Result<Self, PeerWireError> {
        if frame.is_empty() {
            return Ok(Self::KeepAlive);
        }
        let id = frame.get_u8();
        let wrong = PeerWireError::Length { id, length: frame.len() };
        let fixed = match id {
            0..=3 | 14 | 15 => Some(0),
            4 | 13 | 17 => Some(4),
            6 | 8 | 16 => Some(12),
            9 => Some(2),
            _ => None,
        };
        let least = match id {
            7 => 8,
            20 => 1,
            _ => 0,
        };
        if fixed.is_some_and(|fixed| frame.len() != fixed) || frame.len() < least {
            return Err(wrong);
        }
        Ok(match id {
            0 => Self::Choke,
            1 => Self::Unchoke,
            2 => Self::Interested,
            3 => Self::NotInterested,
            4 => Self::Have(frame.get_u32()),
            5 => Self::Bitfield(frame),
            6 => Self::Request { index: frame.get_u32(), begin: frame.get_u32(), length: frame.get_u32() },
            7 => Self::Piece { index: frame.get_u32(), begin: frame.get_u32(), data: frame },
            8 => Self::Cancel { index: frame.get_u32(), begin: frame.get_u32(), length: frame.get_u32() },
            9 => Self::Port(frame.get_u16()),
            13 => Self::Suggest(frame.get_u32()),
            14 => Self::HaveAll,
            15 => Self::HaveNone,
            16 => Self::Reject { index: frame.get_u32(), begin: frame.get_u32(), length: frame.get_u32() },
            17 => Self::AllowedFast(frame.get_u32()),
            20 => Self::Extended { id: frame.get_u8(), payload: frame },
            id => Self::Unknown { id },
        })
    }
}

fn put_numbers(to: &mut BytesMut, id: u8, numbers: &[u32]) {
    to.put_u8(id);
    for number in numbers {
        to.put_u32(*number);
    }
}

/// Cuts a stream of bytes into messages.
#[derive(Clone, Copy, Debug)]
pub struct MessageDecoder {
    cap: u32,
}

impl MessageDecoder {
    /// `cap`: bytes of the largest message that is read.
    pub const fn new(cap: u32) -> Self {
        Self { cap }
    }

    /// The next message, if all of it is in `received`; its data are not copied.
    ///
    /// # Errors
    /// The peer breaks the protocol; the connection is of no more use.
    pub fn decode(&mut self, received: &mut BytesMut) -> Result<Option<Message>, PeerWireError> {
        let Some(prefix) = received.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix);
        if length > self.cap {
            return Err(PeerWireError::TooLong { length, cap: self.cap });
        }
        let end = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(4);
        if received.len() < end {
            return Ok(None);
        }
        let mut frame = received.split_to(end).freeze();
        frame.advance(4);
        Message::decode(frame).map(Some)
    }
}

/// The handshake of the extension protocol (BEP 10), with flotilla's own keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtendedHandshake {
    /// Largest request the sender serves, in bytes; flotilla's own key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fl_block: Option<u32>,
    /// The sender's ticket; flotilla's own key.
    #[serde(skip_serializing_if = "Option::is_none", with = "serde_bytes")]
    pub fl_ticket: Option<Vec<u8>>,
    /// Extension names and their ids.
    pub m: BTreeMap<String, u8>,
    /// Bytes of the metadata (BEP 9).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_size: Option<u32>,
    /// Where the sender listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<u16>,
    /// Requests that the sender queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reqq: Option<u32>,
    /// 1: the sender downloads nothing (BEP 21).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_only: Option<u8>,
    /// The sender's software.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v: Option<String>,
    /// The receiver's address as the sender sees it.
    #[serde(skip_serializing_if = "Option::is_none", with = "serde_bytes")]
    pub yourip: Option<Vec<u8>>,
}

impl ExtendedHandshake {
    /// The bencoded dictionary.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Serializing integers, texts and byte strings cannot fail.
        serde_bencode::to_bytes(self).unwrap_or_default()
    }

    /// Reads the bencoded dictionary; unknown keys are ignored.
    ///
    /// # Errors
    /// Not a dictionary as BEP 10 has it, or too large.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PeerWireError> {
        bencode::guard(bytes, LARGEST_EXTENDED)?;
        serde_bencode::from_bytes(bytes).map_err(|e| PeerWireError::Extended(e.to_string()))
    }
}
