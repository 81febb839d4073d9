//! Which pieces a peer has.

use std::fmt;

use crate::{Geometry, PieceIndex};

/// Bytes that are no bitfield of this geometry (BEP 3: such a connection should be dropped).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BitfieldError {
    /// The bitfield belongs to another number of pieces.
    #[error("bitfield of {found} bytes, expected {expected}")]
    Length {
        /// Bytes that the geometry needs.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A bit after the last piece is set.
    #[error("bitfield with spare bits set")]
    SpareBits,
}

/// One bit for each piece of a geometry, in wire order: the first piece is the highest bit of the
/// first byte (BEP 3 `bitfield`).
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield {
    geometry: Geometry,
    bytes: Vec<u8>,
    count: u32,
}

impl Bitfield {
    /// No piece.
    pub fn empty(geometry: &Geometry) -> Self {
        Self {
            geometry: *geometry,
            bytes: vec![0; byte_length(geometry)],
            count: 0,
        }
    }

    /// All pieces.
    pub fn full(geometry: &Geometry) -> Self {
        let mut bytes = vec![0xff; byte_length(geometry)];
        if let Some(last) = bytes.last_mut() {
            *last &= !spare_bits(geometry);
        }
        Self {
            geometry: *geometry,
            bytes,
            count: geometry.piece_count(),
        }
    }

    /// Reads the payload of a bitfield message.
    ///
    /// # Errors
    /// Another length than the geometry's, or spare bits set: the peer misbehaves.
    pub fn from_wire(geometry: &Geometry, bytes: &[u8]) -> Result<Self, BitfieldError> {
        let expected = byte_length(geometry);
        if bytes.len() != expected {
            return Err(BitfieldError::Length {
                expected,
                found: bytes.len(),
            });
        }
        if bytes
            .last()
            .is_some_and(|last| last & spare_bits(geometry) != 0)
        {
            return Err(BitfieldError::SpareBits);
        }
        let count = bytes.iter().map(|byte| byte.count_ones()).sum();
        Ok(Self {
            geometry: *geometry,
            bytes: bytes.to_vec(),
            count,
        })
    }

    /// The payload of a bitfield message.
    pub fn to_wire(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// Whether the piece is here.
    pub fn has(&self, piece: PieceIndex) -> bool {
        let (at, bit) = place(piece);
        self.bytes.get(at).is_some_and(|byte| byte & bit != 0)
    }

    /// Adds a piece; whether it is new. A piece of a longer geometry is never added.
    pub fn set(&mut self, piece: PieceIndex) -> bool {
        let (at, bit) = place(piece);
        match self.bytes.get_mut(at) {
            Some(byte) if *byte & bit == 0 && piece.get() < self.geometry.piece_count() => {
                *byte |= bit;
                self.count += 1;
                true
            }
            _ => false,
        }
    }

    /// Takes a piece away.
    pub fn clear(&mut self, piece: PieceIndex) {
        let (at, bit) = place(piece);
        if let Some(byte) = self.bytes.get_mut(at).filter(|byte| **byte & bit != 0) {
            *byte &= !bit;
            self.count -= 1;
        }
    }

    /// Number of pieces here.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether all pieces are here.
    pub fn is_full(&self) -> bool {
        self.count == self.geometry.piece_count()
    }

    /// Whether no piece is here.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of pieces of the geometry.
    pub fn len(&self) -> u32 {
        self.geometry.piece_count()
    }

    /// The pieces that are here, in order.
    pub fn iter_set(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        (0_u32..)
            .step_by(8)
            .zip(&self.bytes)
            .filter(|(_, byte)| **byte != 0)
            .flat_map(move |(first, byte)| {
                let set = (0..8).filter(move |bit| byte & (0x80 >> bit) != 0);
                set.filter_map(move |bit| self.geometry.piece(first + bit))
            })
    }

    /// The first piece at or after `piece` that is not here.
    pub fn first_missing_from(&self, piece: PieceIndex) -> Option<PieceIndex> {
        let mut index = piece.get();
        while let Some(candidate) = self.geometry.piece(index) {
            let (at, _) = place(candidate);
            // Whole bytes at once: a waiting reader asks this for each piece it gets.
            if index.is_multiple_of(8) && self.bytes.get(at) == Some(&0xff) {
                index += 8;
            } else if self.has(candidate) {
                index += 1;
            } else {
                return Some(candidate);
            }
        }
        None
    }
}

impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitfield({} of {})", self.count, self.len())
    }
}

fn byte_length(geometry: &Geometry) -> usize {
    usize::try_from(geometry.piece_count().div_ceil(8)).unwrap_or(usize::MAX)
}

/// The bits of the last byte that stand for no piece.
fn spare_bits(geometry: &Geometry) -> u8 {
    match geometry.piece_count() % 8 {
        0 => 0,
        used => 0xff >> used,
    }
}

fn place(piece: PieceIndex) -> (usize, u8) {
    let at = usize::try_from(piece.get() / 8).unwrap_or(usize::MAX);
    (at, 0x80 >> (piece.get() % 8))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(pieces: u32) -> Geometry {
        Geometry::new(u64::from(pieces) << 14, 1 << 14).unwrap()
    }

    #[test]
    fn the_first_piece_is_the_highest_bit() {
        let geometry = of(10);
        let mut bits = Bitfield::empty(&geometry);
        assert!(bits.set(geometry.piece(0).unwrap()));
        assert!(!bits.set(geometry.piece(0).unwrap()));
        assert!(bits.set(geometry.piece(9).unwrap()));
        assert_eq!(bits.to_wire(), [0b1000_0000, 0b0100_0000]);
    }

    #[test]
    fn spare_bits_and_other_lengths_are_refused() {
        let geometry = of(10);
        assert!(
            Bitfield::from_wire(&geometry, &[0xff, 0xc0])
                .unwrap()
                .is_full()
        );
        assert_eq!(
            Bitfield::from_wire(&geometry, &[0, 0x20]),
            Err(BitfieldError::SpareBits)
        );
        for wrong in [&[0xff][..], &[0, 0, 0], &[]] {
            assert!(matches!(
                Bitfield::from_wire(&geometry, wrong),
                Err(BitfieldError::Length { expected: 2, .. })
            ));
        }
    }

    #[test]
    fn a_full_bitfield_has_no_spare_bits() {
        for pieces in 1..20 {
            let full = Bitfield::full(&of(pieces));
            assert_eq!(
                Bitfield::from_wire(&of(pieces), &full.to_wire()),
                Ok(full.clone())
            );
            assert_eq!(full.iter_set().count(), pieces as usize);
        }
    }

    #[test]
    fn a_piece_of_a_longer_geometry_is_not_added() {
        let mut bits = Bitfield::empty(&of(10));
        assert!(!bits.set(of(16).piece(12).unwrap()));
        assert!(bits.is_empty());
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(
            pieces in 1_u32..100,
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..200),
        ) {
            let geometry = of(pieces);
            let mut bits = Bitfield::empty(&geometry);
            let mut model = BTreeSet::new();
            for (add, index) in steps {
                let piece = geometry.piece(index.index(pieces as usize) as u32).unwrap();
                if add {
                    prop_assert_eq!(bits.set(piece), model.insert(piece));
                } else {
                    bits.clear(piece);
                    model.remove(&piece);
                }
            }
            prop_assert_eq!(bits.count() as usize, model.len());
            prop_assert_eq!(bits.is_full(), model.len() == pieces as usize);
            prop_assert!(bits.iter_set().eq(model.iter().copied()));
            for piece in geometry.pieces() {
                prop_assert_eq!(bits.has(piece), model.contains(&piece));
                let missing = geometry.pieces_in(piece.get()..pieces).find(|p| !model.contains(p));
                prop_assert_eq!(bits.first_missing_from(piece), missing);
            }
            prop_assert_eq!(Bitfield::from_wire(&geometry, &bits.to_wire()), Ok(bits));
        }

        #[test]
        fn any_bytes_are_read_or_refused(pieces in 1_u32..200, bytes: Vec<u8>) {
            if let Ok(bits) = Bitfield::from_wire(&of(pieces), &bytes) {
                prop_assert_eq!(bits.to_wire(), bytes);
            }
        }
    }
}
