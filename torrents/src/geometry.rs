//! The one place that maps bytes to pieces and blocks, and alone mints piece indices.

use std::fmt;
use std::ops::Range;

/// Smallest piece length: one block of a stock client (BEP 52 has the same least).
const MIN_PIECE_LENGTH: u32 = 16 * 1024;
/// Largest piece length: a piece is verified in memory.
const MAX_PIECE_LENGTH: u32 = 64 * 1024 * 1024;
/// Most pieces of one swarm: a bitfield of 128 KiB, a piece map of 20 MiB.
const MAX_PIECES: u32 = 1 << 20;
/// Pieces aimed at. Each piece leaves its first holder once for each peer before the swarm is done with it:
/// with few pieces that weighs, with many their hashes and haves do. Simulated with 100 nodes and 1 GiB:
/// 1,024 pieces 1.15 of the bound, 4,096 pieces 1.06.
const PIECES_AIMED_AT: u64 = 4096;
/// Piece lengths chosen for a length lie between these, as long as the piece count permits. Simulated with
/// 20 nodes and 32 MiB: pieces of 32 KiB 1.17 of the bound, of 64 KiB 1.12, of 256 KiB 1.31.
const CHOSEN_PIECE_LENGTH: Range<u64> = 64 * 1024..4 * 1024 * 1024;

/// A length and piece length that this program does not swarm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// Nothing to cut.
    #[error("length is 0, expected at least 1 byte")]
    Empty,
    /// The piece length is outside its bounds or no power of two.
    #[error(
        "piece length {0}, expected a power of two from {MIN_PIECE_LENGTH} to {MAX_PIECE_LENGTH}"
    )]
    PieceLength(u32),
    /// So many pieces would need more memory than one swarm is worth.
    #[error("length {length} in pieces of {piece_length} makes more than {MAX_PIECES} pieces")]
    TooManyPieces {
        /// Bytes to cut.
        length: u64,
        /// Bytes of each piece.
        piece_length: u32,
    },
}

/// The index of a piece that exists; minted by [`Geometry`] alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// The index, 0 for the first piece.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PieceIndex({})", self.0)
    }
}

/// Part of a piece: what one request asks for (BEP 3 `request`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// The piece it lies in.
    pub piece: PieceIndex,
    /// Bytes of the piece before it.
    pub offset: u32,
    /// Its bytes.
    pub length: u32,
}

/// How `length` bytes are cut into pieces of equal length, the last one shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    length: u64,
    piece_length: u32,
    piece_count: u32,
}

impl Geometry {
    /// Most pieces that a geometry has.
    pub const MAX_PIECES: u32 = MAX_PIECES;

    /// Cuts `length` bytes into pieces of `piece_length`.
    ///
    /// # Errors
    /// No bytes, a piece length that is no power of two from 16 KiB to 64 MiB, or more than 2^20
    /// pieces.
    pub fn new(length: u64, piece_length: u32) -> Result<Self, GeometryError> {
        if length == 0 {
            return Err(GeometryError::Empty);
        }
        if !piece_length.is_power_of_two()
            || !(MIN_PIECE_LENGTH..=MAX_PIECE_LENGTH).contains(&piece_length)
        {
            return Err(GeometryError::PieceLength(piece_length));
        }
        match u32::try_from(length.div_ceil(u64::from(piece_length))) {
            Ok(piece_count) if piece_count <= MAX_PIECES => Ok(Self {
                length,
                piece_length,
                piece_count,
            }),
            _ => Err(GeometryError::TooManyPieces {
                length,
                piece_length,
            }),
        }
    }

    /// Chooses the piece length: the power of two at or above length / 4096, from 64 KiB to 4 MiB,
    /// larger when there would be too many pieces.
    ///
    /// # Errors
    /// No bytes, or more than 64 TiB.
    pub fn for_length(length: u64) -> Result<Self, GeometryError> {
        let chosen = length.div_ceil(PIECES_AIMED_AT);
        let chosen = chosen.clamp(CHOSEN_PIECE_LENGTH.start, CHOSEN_PIECE_LENGTH.end);
        let needed = chosen.max(length.div_ceil(u64::from(MAX_PIECES)));
        let piece_length = needed
            .checked_next_power_of_two()
            .and_then(|p| u32::try_from(p).ok());
        match piece_length {
            Some(piece_length) if piece_length <= MAX_PIECE_LENGTH => {
                Self::new(length, piece_length)
            }
            _ => Err(GeometryError::TooManyPieces {
                length,
                piece_length: MAX_PIECE_LENGTH,
            }),
        }
    }

    /// Bytes in all.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of each piece but the last.
    pub const fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// Number of pieces, at least 1.
    pub const fn piece_count(&self) -> u32 {
        self.piece_count
    }

    /// The piece with this index, if there is one.
    pub fn piece(&self, index: u32) -> Option<PieceIndex> {
        (index < self.piece_count).then_some(PieceIndex(index))
    }

    /// The piece after `piece`.
    pub fn next(&self, piece: PieceIndex) -> Option<PieceIndex> {
        piece.0.checked_add(1).and_then(|index| self.piece(index))
    }

    /// All pieces in order.
    pub fn pieces(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + use<> {
        self.pieces_in(0..self.piece_count)
    }

    /// The pieces with an index in `range`, in order; what lies outside is left out.
    pub fn pieces_in(
        &self,
        range: Range<u32>,
    ) -> impl DoubleEndedIterator<Item = PieceIndex> + use<> {
        (range.start..range.end.min(self.piece_count)).map(PieceIndex)
    }

    /// Bytes of this piece. 0 for a piece of a longer geometry.
    pub fn piece_size(&self, piece: PieceIndex) -> u32 {
        let left = self.length.saturating_sub(self.piece_offset(piece));
        u32::try_from(left).map_or(self.piece_length, |left| left.min(self.piece_length))
    }

    /// Bytes before this piece.
    pub fn piece_offset(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_length)
    }

    /// Where the piece lies in the whole.
    pub fn piece_range(&self, piece: PieceIndex) -> Range<u64> {
        let start = self.piece_offset(piece);
        start..start + u64::from(self.piece_size(piece))
    }

    /// The piece that holds the byte at `offset`.
    pub fn piece_at(&self, offset: u64) -> Option<PieceIndex> {
        if offset >= self.length {
            return None;
        }
        self.piece(u32::try_from(offset / u64::from(self.piece_length)).ok()?)
    }

    /// Cuts a piece into blocks of `block_length` (0 counts as 1), the last one shorter.
    pub fn blocks(
        &self,
        piece: PieceIndex,
        block_length: u32,
    ) -> impl Iterator<Item = Block> + use<> {
        let size = self.piece_size(piece);
        let block_length = block_length.max(1);
        (0..size.div_ceil(block_length)).map(move |number| {
            let offset = number * block_length;
            Block {
                piece,
                offset,
                length: block_length.min(size - offset),
            }
        })
    }

    /// The block that a wire message names: not empty, and within its piece.
    pub fn block(&self, index: u32, offset: u32, length: u32) -> Option<Block> {
        let piece = self.piece(index)?;
        let within = offset.checked_add(length)? <= self.piece_size(piece);
        (within && length > 0).then_some(Block {
            piece,
            offset,
            length,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn geometries() -> impl Strategy<Value = Geometry> {
        (1_u64..=1 << 31, 14_u32..=26)
            .prop_map(|(length, log2)| Geometry::new(length, 1 << log2).unwrap())
    }

    #[test]
    fn bad_measures_are_refused() {
        assert_eq!(Geometry::new(0, 1 << 18), Err(GeometryError::Empty));
        for piece_length in [0, 1, 1 << 13, (1 << 18) + 1, 1 << 27, u32::MAX] {
            let refused = Err(GeometryError::PieceLength(piece_length));
            assert_eq!(Geometry::new(1, piece_length), refused);
        }
        assert!(Geometry::new(1 << 34, 1 << 14).is_ok());
        assert!(Geometry::new((1 << 34) + 1, 1 << 14).is_err());
        assert!(Geometry::new(u64::MAX, 1 << 26).is_err());
    }

    #[test]
    fn the_chosen_piece_length_follows_the_length() {
        let chosen = |length: u64| Geometry::for_length(length).unwrap().piece_length();
        assert_eq!(chosen(1), 64 * 1024);
        assert_eq!(chosen(256 << 20), 64 * 1024);
        assert_eq!(chosen((256 << 20) + 1), 128 * 1024);
        assert_eq!(chosen(1 << 30), 256 * 1024);
        assert_eq!(chosen(10 << 30), 4 << 20);
        assert_eq!(chosen(1 << 40), 4 << 20);
        assert_eq!(chosen((1 << 42) + 1), 8 << 20);
        assert_eq!(chosen(1 << 46), 64 << 20);
        assert!(Geometry::for_length((1 << 46) + 1).is_err());
        assert!(Geometry::for_length(u64::MAX).is_err());
        assert!(Geometry::for_length(0).is_err());
    }

    #[test]
    fn a_piece_of_a_longer_geometry_is_empty() {
        let long = Geometry::new(1 << 20, 1 << 14).unwrap();
        let short = Geometry::new(1, 1 << 14).unwrap();
        let foreign = long.pieces().next_back().unwrap();
        assert_eq!(short.piece_size(foreign), 0);
        assert_eq!(short.blocks(foreign, 1).count(), 0);
        assert_eq!(short.next(foreign), None);
    }

    proptest! {
        #[test]
        fn any_measures_are_taken_or_refused(length: u64, piece_length: u32) {
            let _ = Geometry::new(length, piece_length);
            if let Ok(geometry) = Geometry::for_length(length) {
                prop_assert!(geometry.piece_count() <= Geometry::MAX_PIECES);
            }
        }

        #[test]
        fn pieces_tile_the_length(geometry in geometries()) {
            let mut end = 0;
            let mut before = None;
            for piece in geometry.pieces() {
                let range = geometry.piece_range(piece);
                prop_assert_eq!(range.start, end);
                prop_assert!(range.end > range.start);
                prop_assert_eq!(geometry.piece_at(range.start), Some(piece));
                prop_assert_eq!(geometry.piece_at(range.end - 1), Some(piece));
                prop_assert_eq!(before.map_or(geometry.piece(0), |b| geometry.next(b)), Some(piece));
                (end, before) = (range.end, Some(piece));
            }
            prop_assert_eq!(end, geometry.length());
            prop_assert_eq!(geometry.piece_at(end), None);
            prop_assert_eq!(before.and_then(|last| geometry.next(last)), None);
        }

        #[test]
        fn blocks_tile_a_piece(
            geometry in geometries(), index: prop::sample::Index, block_length in 1000_u32..1 << 27
        ) {
            let piece = geometry.piece(index.index(geometry.piece_count() as usize) as u32).unwrap();
            let mut end = 0;
            for block in geometry.blocks(piece, block_length) {
                prop_assert_eq!(block.offset, end);
                prop_assert!(block.length > 0 && block.length <= block_length);
                let checked = geometry.block(piece.get(), block.offset, block.length);
                prop_assert_eq!(checked, Some(block));
                end += block.length;
            }
            prop_assert_eq!(end, geometry.piece_size(piece));
        }

        #[test]
        fn a_block_from_the_wire_lies_within_its_piece(
            geometry in geometries(), index: u32, offset: u32, length: u32
        ) {
            let index = index % (geometry.piece_count() + 1);
            if let Some(block) = geometry.block(index, offset, length) {
                prop_assert!(block.length > 0);
                prop_assert!(block.offset + block.length <= geometry.piece_size(block.piece));
            }
        }
    }
}
