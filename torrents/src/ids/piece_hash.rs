//! The hash that a piece is verified with.

use sha1::{Digest as _, Sha1};

/// SHA-1 of a piece (BEP 3 `pieces`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceHash([u8; 20]);

public_id!(PieceHash, 20, "piece hash");

impl PieceHash {
    /// Bytes of one hash.
    pub const LENGTH: usize = 20;

    /// Hashes a whole piece.
    pub fn of(piece: &[u8]) -> Self {
        Self(Sha1::digest(piece).into())
    }
}

/// Hashes a piece in parts, so that it need not be in memory as a whole.
#[derive(Clone, Debug, Default)]
pub struct PieceHasher(Sha1);

impl PieceHasher {
    /// Adds the next bytes of the piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all that was added.
    pub fn finish(self) -> PieceHash {
        PieceHash(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix A.1.
    #[test]
    fn the_hash_is_sha1() {
        assert_eq!(
            PieceHash::of(b"abc").to_string(),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
    }

    #[test]
    fn a_piece_hashed_in_parts_has_the_same_hash() {
        let mut hasher = PieceHasher::default();
        hasher.update(b"a");
        hasher.update(b"");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), PieceHash::of(b"abc"));
    }
}
