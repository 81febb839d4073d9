//! The messages after the handshake, and how they are written.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::geometry::Block;

/// A message: `<u32 length><u8 id><payload>` (BEP 3). Indices and ranges are as the peer sent them:
/// [`crate::Geometry`] checks them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Length 0: the connection is alive.
    KeepAlive,
    /// The sender will not serve requests.
    Choke,
    /// The sender serves requests.
    Unchoke,
    /// The sender wants pieces.
    Interested,
    /// The sender wants no pieces.
    NotInterested,
    /// The sender has this piece.
    Have(u32),
    /// The pieces that the sender has.
    Bitfield(Bytes),
    /// Asks for a block.
    Request {
        /// The piece.
        index: u32,
        /// Bytes of the piece before the block.
        begin: u32,
        /// Bytes of the block.
        length: u32,
    },
    /// A block.
    Piece {
        /// The piece.
        index: u32,
        /// Bytes of the piece before the block.
        begin: u32,
        /// The block.
        data: Bytes,
    },
    /// Takes a request back.
    Cancel {
        /// The piece.
        index: u32,
        /// Bytes of the piece before the block.
        begin: u32,
        /// Bytes of the block.
        length: u32,
    },
    /// The sender's DHT port (BEP 5).
    Port(u16),
    /// The sender would like to serve this piece (BEP 6).
    Suggest(u32),
    /// The sender has all pieces (BEP 6).
    HaveAll,
    /// The sender has no piece (BEP 6).
    HaveNone,
    /// The sender will not serve this request (BEP 6).
    Reject {
        /// The piece.
        index: u32,
        /// Bytes of the piece before the block.
        begin: u32,
        /// Bytes of the block.
        length: u32,
    },
    /// The sender serves this piece even when it chokes (BEP 6).
    AllowedFast(u32),
    /// A message of the extension protocol (BEP 10); id 0 is the extended handshake.
    Extended {
        /// The receiver's number for the extension.
        id: u8,
        /// Its payload.
        payload: Bytes,
    },
    /// A message of an extension that we do not speak; its payload was passed over.
    Unknown {
        /// The message id.
        id: u8,
    },
}

/// The message ids of BEP 3, BEP 5 (port), BEP 6 (13 to 17) and BEP 10 (20).
pub(super) mod id {
    pub(crate) const CHOKE: u8 = 0;
    pub(crate) const UNCHOKE: u8 = 1;
    pub(crate) const INTERESTED: u8 = 2;
    pub(crate) const NOT_INTERESTED: u8 = 3;
    pub(crate) const HAVE: u8 = 4;
    pub(crate) const BITFIELD: u8 = 5;
    pub(crate) const REQUEST: u8 = 6;
    pub(crate) const PIECE: u8 = 7;
    pub(crate) const CANCEL: u8 = 8;
    pub(crate) const PORT: u8 = 9;
    pub(crate) const SUGGEST: u8 = 0x0d;
    pub(crate) const HAVE_ALL: u8 = 0x0e;
    pub(crate) const HAVE_NONE: u8 = 0x0f;
    pub(crate) const REJECT: u8 = 0x10;
    pub(crate) const ALLOWED_FAST: u8 = 0x11;
    pub(crate) const EXTENDED: u8 = 20;
}

impl Message {
    /// Asks for `block`.
    pub fn request(block: Block) -> Self {
        let (index, begin, length) = numbers(block);
        Self::Request {
            index,
            begin,
            length,
        }
    }

    /// Takes the request for `block` back.
    pub fn cancel(block: Block) -> Self {
        let (index, begin, length) = numbers(block);
        Self::Cancel {
            index,
            begin,
            length,
        }
    }

    /// Says that the request for `block` will not be served.
    pub fn reject(block: Block) -> Self {
        let (index, begin, length) = numbers(block);
        Self::Reject {
            index,
            begin,
            length,
        }
    }

    /// Appends the bytes on the wire. Payloads are the caller's own, far below the 4 GiB that a
    /// frame can hold.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::KeepAlive => out.put_u32(0),
            Self::Choke => head(out, id::CHOKE, 0),
            Self::Unchoke => head(out, id::UNCHOKE, 0),
            Self::Interested => head(out, id::INTERESTED, 0),
            Self::NotInterested => head(out, id::NOT_INTERESTED, 0),
            Self::Have(index) => one(out, id::HAVE, *index),
            Self::Bitfield(bits) => {
                head(out, id::BITFIELD, bits.len());
                out.put_slice(bits);
            }
            Self::Request {
                index,
                begin,
                length,
            } => {
                three(out, id::REQUEST, *index, *begin, *length);
            }
            Self::Piece { index, begin, data } => {
                let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
                out.put_slice(&encode_piece_header(*index, *begin, length));
                out.put_slice(data);
            }
            Self::Cancel {
                index,
                begin,
                length,
            } => three(out, id::CANCEL, *index, *begin, *length),
            Self::Port(port) => {
                head(out, id::PORT, 2);
                out.put_u16(*port);
            }
            Self::Suggest(index) => one(out, id::SUGGEST, *index),
            Self::HaveAll => head(out, id::HAVE_ALL, 0),
            Self::HaveNone => head(out, id::HAVE_NONE, 0),
            Self::Reject {
                index,
                begin,
                length,
            } => three(out, id::REJECT, *index, *begin, *length),
            Self::AllowedFast(index) => one(out, id::ALLOWED_FAST, *index),
            Self::Extended { id, payload } => {
                head(out, id::EXTENDED, payload.len().saturating_add(1));
                out.put_u8(*id);
                out.put_slice(payload);
            }
            Self::Unknown { id } => head(out, *id, 0),
        }
    }
}

/// The bytes before the data of a piece message, so that the data need not be copied after them.
/// `data_length` is the length of the block, far below 4 GiB.
pub fn encode_piece_header(index: u32, begin: u32, data_length: u32) -> [u8; 13] {
    let mut header = [0; 13];
    let mut out = header.as_mut_slice();
    out.put_u32(data_length.saturating_add(9));
    out.put_u8(id::PIECE);
    out.put_u32(index);
    out.put_u32(begin);
    header
}

fn numbers(block: Block) -> (u32, u32, u32) {
    (block.piece.get(), block.offset, block.length)
}

fn head(out: &mut BytesMut, id: u8, payload: usize) {
    out.put_u32(u32::try_from(payload.saturating_add(1)).unwrap_or(u32::MAX));
    out.put_u8(id);
}

fn one(out: &mut BytesMut, id: u8, index: u32) {
    head(out, id, 4);
    out.put_u32(index);
}

fn three(out: &mut BytesMut, id: u8, index: u32, begin: u32, length: u32) {
    head(out, id, 12);
    out.put_u32(index);
    out.put_u32(begin);
    out.put_u32(length);
}
