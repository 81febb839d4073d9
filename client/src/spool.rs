//! Bytes that may become a layer: in a file of their own until they are whole and match a digest.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use flotilla_torrents::{
    ContentId, Digest, DigestAlgorithm, DigestHasher, Geometry, GeometryError, PieceHash,
};
use tempfile::NamedTempFile;

use crate::engine::Engine;
use crate::store::{StoreError, StoredLayer};

/// Bytes in the order in which they come. They count against the cache quota, and are gone when
/// this is dropped. All methods that touch the disk block.
#[derive(Debug)]
pub struct Spool {
    /// Made with the first byte.
    file: Option<NamedTempFile>,
    length: u64,
    room: Room,
}

/// Why spooled bytes are no layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The store has no room, the disk refused, or the layer is another source's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No layer has this length.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// They are something else.
    #[error("the bytes are {found}, not {expected}")]
    OtherBytes {
        /// What they should have been.
        expected: Digest,
        /// What they are.
        found: Digest,
    },
}

/// What is held of the quota.
#[derive(Debug)]
struct Room {
    engine: Engine,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.engine.store().release_spooled(self.bytes);
    }
}

impl Spool {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            file: None,
            length: 0,
            room: Room { engine, bytes: 0 },
        }
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends. After an error the spool is of no use.
    ///
    /// # Errors
    /// The quota has no room for them, or the disk refused.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let end = self.length.saturating_add(bytes.len() as u64);
        let more = end.saturating_sub(self.room.bytes);
        if more > 0 {
            self.room.engine.reserve_spooled(more)?;
            self.room.bytes = end;
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => self.room.engine.store().spool_file()?,
        };
        let file = self.file.insert(file);
        let written = file.as_file().write_all_at(bytes, self.length);
        written.map_err(|error| StoreError::io(file.path(), error))?;
        self.length = end;
        Ok(())
    }

    /// Forgets what follows the first `length` bytes; what comes next replaces it.
    pub fn truncate(&mut self, length: u64) {
        self.length = self.length.min(length);
    }

    /// Makes the bytes a complete layer of this host, if they are the blob of `digest`. `origin`:
    /// scheme, host and port of the source that has the blob.
    ///
    /// The whole is read once, for its digest and the hashes of its pieces, which depend on its
    /// length.
    ///
    /// # Errors
    /// They are something else, or cannot be kept.
    pub fn into_layer(self, digest: &Digest, origin: &str) -> Result<Arc<StoredLayer>, SpoolError> {
        let Self { file, length, room } = self;
        let geometry = Geometry::for_length(length)?;
        let engine = room.engine.clone();
        let file = file.map_or_else(|| engine.store().spool_file(), Ok)?;
        let hashes = Hashes::of(file.as_file(), &geometry, digest.algorithm());
        let hashes = hashes.map_err(|error| StoreError::io(file.path(), error))?;
        if hashes.whole != *digest {
            return Err(SpoolError::OtherBytes {
                expected: digest.clone(),
                found: hashes.whole,
            });
        }
        // What was cut off would follow the layer's bytes.
        let cut = file.as_file().set_len(length);
        cut.map_err(|error| StoreError::io(file.path(), error))?;
        // The layer takes the place of the spool.
        drop(room);
        let content = ContentId::blob(digest);
        Ok(engine.adopt(file, &content, geometry, origin, hashes)?)
    }
}

/// The hashes of spooled bytes.
pub(crate) struct Hashes {
    pub(crate) pieces: Vec<PieceHash>,
    pub(crate) sha256: Digest,
    whole: Digest,
}

impl Hashes {
    fn of(file: &File, geometry: &Geometry, algorithm: DigestAlgorithm) -> io::Result<Self> {
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
