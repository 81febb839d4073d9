//! Hashes of whole content, read from the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use flotilla_torrents::{Digest, DigestAlgorithm, DigestHasher, Geometry, PieceHash};

use super::StoredLayer;

/// Bytes hashed at a time when a whole layer is read back.
const READ_BACK: usize = 1024 * 1024;

/// The hashes of spooled bytes.
pub(crate) struct Hashes {
    pub(crate) pieces: Vec<PieceHash>,
    pub(crate) sha256: Digest,
    pub(crate) whole: Digest,
}

impl Hashes {
    pub(crate) fn of(
        file: &File,
        geometry: &Geometry,
        algorithm: DigestAlgorithm,
    ) -> io::Result<Self> {
        let mut sha256 = DigestHasher::new(DigestAlgorithm::Sha256);
        let is_other = algorithm != DigestAlgorithm::Sha256;
        let mut other = is_other.then(|| DigestHasher::new(algorithm));
        let mut buffer = Vec::new();
        let mut pieces = Vec::new();
        for piece in geometry.pieces() {
            let size = usize::try_from(geometry.piece_size(piece)).map_err(io::Error::other)?;
            buffer.resize(size, 0);
            file.read_exact_at(&mut buffer, geometry.piece_offset(piece))?;
            pieces.push(PieceHash::of(&buffer));
            sha256.update(&buffer);
            if let Some(other) = &mut other {
                other.update(&buffer);
            }
        }
        let sha256 = sha256.finish();
        let whole = other.map_or_else(|| sha256.clone(), DigestHasher::finish);
        Ok(Self {
            pieces,
            sha256,
            whole,
        })
    }
}

/// The digest of a complete layer, of the algorithm of `like`.
pub(crate) fn whole_digest(layer: &StoredLayer, like: &Digest) -> io::Result<Digest> {
    let mut hasher = DigestHasher::new(like.algorithm());
    let length = layer.geometry().length();
    let mut offset = 0;
    while offset < length {
        let part = usize::try_from(length - offset)
            .unwrap_or(READ_BACK)
            .min(READ_BACK);
        hasher.update(&layer.read(offset, part)?);
        offset += part as u64;
    }
    Ok(hasher.finish())
}
