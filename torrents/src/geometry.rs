//! How content is cut: into pieces, and pieces into blocks.

use std::fmt;
use std::ops::Range;

/// The least piece length of a swarm of ours.
const LEAST_PIECE: u32 = 256 * 1024;
/// The largest one chosen by [`Geometry::for_length`] unless the piece count demands more.
const MOST_PIECE: u32 = 4 * 1024 * 1024;
/// Bounds of foreign torrents: BEP 52's least, and what fits into memory while assembled.
const PIECE_LENGTHS: std::ops::RangeInclusive<u32> = 16 * 1024..=64 * 1024 * 1024;
/// A bitfield of 128 KiB, a piece map of 20 MiB.
const MOST_PIECES: u64 = 1 << 20;

/// An index that a [`Geometry`] has checked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// The number, as on the wire.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A run of bytes inside one piece: what a request names (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    /// The piece.
    pub piece: PieceIndex,
    /// Bytes from the beginning of the piece.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
}

/// Content cannot be cut this way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// There is nothing to cut.
    #[error("content of 0 bytes has no pieces")]
    Empty,
    /// The piece length is no power of two within the bounds.
    #[error("piece length {0} is not a power of two from 16 KiB to 64 MiB")]
    PieceLength(u32),
    /// Too many pieces.
    #[error("{0} pieces are more than {MOST_PIECES}")]
    TooManyPieces(u64),
}

/// Length and piece length of one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    length: u64,
    piece_length: u32,
    piece_count: u32,
}

impl Geometry {
    /// Content of `length` bytes in pieces of `piece_length` bytes, the last one shorter.
    ///
    /// # Errors
    /// Nothing to cut, a piece length that is no power of two from 16 KiB to 64 MiB, or more
    /// than 2^20 pieces.
    pub fn new(length: u64, piece_length: u32) -> Result<Self, GeometryError> {
        if length == 0 {
            return Err(GeometryError::Empty);
        }
        if !piece_length.is_power_of_two() || !PIECE_LENGTHS.contains(&piece_length) {
            return Err(GeometryError::PieceLength(piece_length));
        }
        let pieces = length.div_ceil(u64::from(piece_length));
        if pieces > MOST_PIECES {
            return Err(GeometryError::TooManyPieces(pieces));
        }
        let piece_count = u32::try_from(pieces).map_err(|_| GeometryError::TooManyPieces(pieces))?;
        Ok(Self { length, piece_length, piece_count })
    }

    /// The cut that flotilla chooses: about 512 pieces, from 256 KiB to 4 MiB each (the
    /// makespan of a swarm of N pays log2(N) pieces, and a hop costs milliseconds), larger
    /// only where the piece count would pass 2^20.
    ///
    /// # Errors
    /// Nothing to cut, or more than 64 TiB.
    pub fn for_length(length: u64) -> Result<Self, GeometryError> {
        let ideal = length.div_ceil(512).checked_next_power_of_two().unwrap_or(u64::MAX);
        let chosen = u32::try_from(ideal).unwrap_or(MOST_PIECE).clamp(LEAST_PIECE, MOST_PIECE);
        let mut piece_length = chosen;
        while length.div_ceil(u64::from(piece_length)) > MOST_PIECES && piece_length < *PIECE_LENGTHS.end() {
            piece_length *= 2;
        }
        Self::new(length, piece_length)
    }

    /// Bytes of the whole.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of every piece but the last.
    pub const fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// Number of pieces.
    pub const fn piece_count(&self) -> u32 {
        self.piece_count
    }

    /// The piece with this number, if there is one.
    pub fn piece(&self, index: u32) -> Option<PieceIndex> {
        (index < self.piece_count).then_some(PieceIndex(index))
    }

    /// All pieces in order.
    pub fn pieces(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + ExactSizeIterator + use<> {
        (0..self.piece_count).map(PieceIndex)
    }

    /// The pieces with numbers in `range`, as far as they exist.
    pub fn pieces_in(&self, range: Range<u32>) -> impl DoubleEndedIterator<Item = PieceIndex> + use<> {
        (range.start..range.end.min(self.piece_count)).map(PieceIndex)
    }

    /// The piece after `piece`.
    pub fn next(&self, piece: PieceIndex) -> Option<PieceIndex> {
        self.piece(piece.0.checked_add(1)?)
    }

    /// Bytes of `piece`.
    pub fn piece_size(&self, piece: PieceIndex) -> u32 {
        let left = self.length.saturating_sub(self.piece_offset(piece));
        u32::try_from(left).unwrap_or(u32::MAX).min(self.piece_length)
    }

    /// Where `piece` begins.
    pub fn piece_offset(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_length)
    }

    /// The bytes of `piece`.
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

    /// `piece` in blocks of `block_length` bytes, the last one shorter.
    pub fn blocks(&self, piece: PieceIndex, block_length: u32) -> impl Iterator<Item = Block> + use<> {
        let size = self.piece_size(piece);
        let step = block_length.max(1);
        (0..size.div_ceil(step)).map(move |number| {
            let offset = number * step;
            Block { piece, offset, length: step.min(size - offset) }
        })
    }

    /// The block with these numbers from the wire, if it lies inside a piece.
    pub fn block(&self, index: u32, offset: u32, length: u32) -> Option<Block> {
        let piece = self.piece(index)?;
        let end = offset.checked_add(length)?;
        (length > 0 && end <= self.piece_size(piece)).then_some(Block { piece, offset, length })
    }
}
