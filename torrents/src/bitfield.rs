//! Which pieces somebody has (BEP 3, `bitfield`).

use crate::{Geometry, PieceIndex};

/// A set of pieces of one geometry, in wire order: the first piece is the highest bit of the
/// first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Vec<u8>,
    geometry: Geometry,
    count: u32,
}

/// Bytes from the wire are not a bitfield of this geometry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BitfieldError {
    /// Too many or too few bytes.
    #[error("bitfield of {found} bytes, expected {expected}")]
    Length {
        /// Bytes for this geometry.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// Bits behind the last piece are set (BEP 3: such a connection is dropped).
    #[error("bitfield with spare bits set")]
    SpareBits,
}

impl Bitfield {
    /// No piece.
    pub fn empty(geometry: &Geometry) -> Self {
        Self { bytes: vec![0; bytes_for(geometry)], geometry: *geometry, count: 0 }
    }

    /// Every piece.
    pub fn full(geometry: &Geometry) -> Self {
        let mut bits = Self::empty(geometry);
        for piece in geometry.pieces() {
            bits.set(piece);
        }
        bits
    }

    /// The set that `bytes` names.
    ///
    /// # Errors
    /// Another length than the geometry's, or spare bits set.
    pub fn from_wire(geometry: &Geometry, bytes: &[u8]) -> Result<Self, BitfieldError> {
        let expected = bytes_for(geometry);
        if bytes.len() != expected {
            return Err(BitfieldError::Length { expected, found: bytes.len() });
        }
        let spare = expected * 8 - usize::try_from(geometry.piece_count()).unwrap_or(0);
        let last = bytes.last().copied().unwrap_or(0);
        if last & !(0xff_u8.checked_shl(u32::try_from(spare).unwrap_or(8)).unwrap_or(0)) != 0 {
            return Err(BitfieldError::SpareBits);
        }
        let count = bytes.iter().map(|byte| byte.count_ones()).sum();
        Ok(Self { bytes: bytes.to_vec(), geometry: *geometry, count })
    }

    /// The bytes of a `bitfield` message.
    pub fn to_wire(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// Whether `piece` is in the set.
    pub fn has(&self, piece: PieceIndex) -> bool {
        let (byte, bit) = place(piece);
        self.bytes.get(byte).is_some_and(|byte| byte & bit != 0)
    }

    /// Adds `piece`; true when it was not in the set.
    pub fn set(&mut self, piece: PieceIndex) -> bool {
        let (byte, bit) = place(piece);
        match self.bytes.get_mut(byte) {
            Some(byte) if *byte & bit == 0 => {
                *byte |= bit;
                self.count += 1;
                true
            }
            _ => false,
        }
    }

    /// Removes `piece`.
    pub fn clear(&mut self, piece: PieceIndex) {
        let (byte, bit) = place(piece);
        if let Some(byte) = self.bytes.get_mut(byte)
            && *byte & bit != 0
        {
            *byte &= !bit;
            self.count -= 1;
        }
    }

    /// Pieces in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether every piece is in the set.
    pub fn is_full(&self) -> bool {
        self.count == self.geometry.piece_count()
    }

    /// Pieces of the geometry.
    pub fn len(&self) -> u32 {
        self.geometry.piece_count()
    }

    /// Whether no piece is in the set.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The pieces in the set, in order.
    pub fn iter_set(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.geometry.pieces().filter(|piece| self.has(*piece))
    }

    /// The first piece from `start` on that is not in the set.
    pub fn first_missing_from(&self, start: PieceIndex) -> Option<PieceIndex> {
        self.geometry.pieces_in(start.get()..self.len()).find(|piece| !self.has(*piece))
    }
}

fn bytes_for(geometry: &Geometry) -> usize {
    usize::try_from(geometry.piece_count().div_ceil(8)).unwrap_or(usize::MAX)
}

fn place(piece: PieceIndex) -> (usize, u8) {
    let byte = usize::try_from(piece.get() / 8).unwrap_or(usize::MAX);
    (byte, 0x80 >> (piece.get() % 8))
}
