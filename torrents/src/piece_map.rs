//! The piece map: the hashes of a content's pieces, growing from the front.

use crate::{Geometry, PieceHash, PieceIndex};

/// The hashes known so far: always of the first pieces, since the source is read in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceMap {
    geometry: Geometry,
    hashes: Vec<PieceHash>,
}

/// The map has a hash for every piece already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the piece map is complete")]
pub struct CompleteError;

impl PieceMap {
    /// A map that knows nothing.
    pub fn new(geometry: Geometry) -> Self {
        Self { geometry, hashes: Vec::new() }
    }

    /// The cut.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Adds the hash of the next piece.
    ///
    /// # Errors
    /// There is no next piece.
    pub fn push(&mut self, hash: PieceHash) -> Result<PieceIndex, CompleteError> {
        let piece = self.geometry.piece(self.known()).ok_or(CompleteError)?;
        self.hashes.push(hash);
        Ok(piece)
    }

    /// Pieces with a hash.
    pub fn known(&self) -> u32 {
        u32::try_from(self.hashes.len()).unwrap_or(u32::MAX)
    }

    /// The hash of `piece`, when it is known.
    pub fn hash(&self, piece: PieceIndex) -> Option<PieceHash> {
        self.hashes.get(usize::try_from(piece.get()).ok()?).copied()
    }

    /// The known hashes from piece `first` on.
    pub fn hashes_from(&self, first: u32) -> &[PieceHash] {
        usize::try_from(first).ok().and_then(|first| self.hashes.get(first..)).unwrap_or_default()
    }

    /// Whether every piece has a hash.
    pub fn is_complete(&self) -> bool {
        self.known() == self.geometry.piece_count()
    }
}
