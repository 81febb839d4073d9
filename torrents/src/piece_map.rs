//! The hashes of the pieces, while they become known.

use crate::{Geometry, Metainfo, MetainfoError, PieceHash, PieceIndex};

/// A hash that the map cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PieceMapError {
    /// All pieces are known.
    #[error("the piece map already knows all {0} pieces")]
    Complete(u32),
}

/// A map that cannot become a torrent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Pieces are missing.
    #[error("the piece map knows {known} pieces of {expected}")]
    Growing {
        /// Pieces known.
        known: u32,
        /// Pieces of the geometry.
        expected: u32,
    },
    /// The torrent's other parts are refused.
    #[error(transparent)]
    Metainfo(#[from] MetainfoError),
}

/// The piece hashes of content that arrives in order: always those of the first `known` pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceMap {
    geometry: Geometry,
    hashes: Vec<PieceHash>,
}

impl PieceMap {
    /// A map that knows no piece.
    pub fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            hashes: Vec::new(),
        }
    }

    /// How the content is cut.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Adds the hash of the next piece.
    ///
    /// # Errors
    /// All pieces are known.
    pub fn push(&mut self, hash: PieceHash) -> Result<PieceIndex, PieceMapError> {
        let known = self.known();
        let piece = self
            .geometry
            .piece(known)
            .ok_or(PieceMapError::Complete(known))?;
        self.hashes.push(hash);
        Ok(piece)
    }

    /// Number of pieces whose hash is known.
    pub fn known(&self) -> u32 {
        // At most the piece count, which is a u32.
        u32::try_from(self.hashes.len()).unwrap_or(u32::MAX)
    }

    /// The hash of a piece, once it is known.
    pub fn hash(&self, piece: PieceIndex) -> Option<PieceHash> {
        self.hashes.get(usize::try_from(piece.get()).ok()?).copied()
    }

    /// The known hashes of piece `first` and those after it.
    pub fn hashes_from(&self, first: u32) -> &[PieceHash] {
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        self.hashes.get(first..).unwrap_or_default()
    }

    /// Whether all pieces are known.
    pub fn is_complete(&self) -> bool {
        self.known() == self.geometry.piece_count()
    }

    /// The standard torrent of complete content, private (BEP 27): equal content and name give equal
    /// bytes and so an equal info hash. `announce` are the trackers, the first one preferred;
    /// `url_list` are web seeds (BEP 19).
    ///
    /// # Errors
    /// Pieces are missing, or the name is no file name.
    pub fn seal(
        &self,
        name: &str,
        announce: &[String],
        url_list: &[String],
    ) -> Result<Metainfo, SealError> {
        let growing = SealError::Growing {
            known: self.known(),
            expected: self.geometry.piece_count(),
        };
        if !self.is_complete() {
            return Err(growing);
        }
        Ok(Metainfo::new(
            name,
            self.geometry,
            self.hashes.clone(),
            true,
            announce,
            url_list,
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_grows_piece_by_piece_and_then_seals() {
        let mut map = PieceMap::new(Geometry::new(40_000, 1 << 14).unwrap());
        for number in 0..3_u8 {
            assert!(!map.is_complete());
            let growing = map.seal("layer", &[], &[]);
            assert_eq!(
                growing,
                Err(SealError::Growing {
                    known: number.into(),
                    expected: 3
                })
            );
            let piece = map.push(PieceHash::of(&[number])).unwrap();
            assert_eq!(piece.get(), u32::from(number));
            assert_eq!(map.hash(piece), Some(PieceHash::of(&[number])));
        }
        assert!(map.is_complete());
        assert_eq!(
            map.push(PieceHash::of(b"")),
            Err(PieceMapError::Complete(3))
        );
        assert_eq!(map.hashes_from(2), [PieceHash::of(&[2])]);
        assert_eq!(map.hashes_from(4), []);
        let torrent = map.seal("layer", &[], &[]).unwrap();
        assert!(torrent.is_private());
        assert_eq!(torrent.pieces(), map.hashes_from(0));
        assert_eq!(torrent, map.seal("layer", &[], &[]).unwrap());
    }
}
