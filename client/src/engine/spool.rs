//! Bytes that may become a layer: in a file of their own until they are whole and match a digest.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use flotilla_torrents::{ContentId, Digest, Geometry, GeometryError};
use tempfile::NamedTempFile;
use tokio::runtime::Handle;

use crate::engine::Engine;
use crate::store::{Hashes, StoreError, StoredLayer};

/// Bytes in the order in which they come. They count against the cache quota, and are gone when
/// this is dropped. Methods that touch the disk block.
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
        expected: Box<Digest>,
        /// What they are.
        found: Box<Digest>,
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

impl Engine {
    /// A place for bytes that may become a layer.
    pub fn spool(&self) -> Spool {
        Spool::new(self.clone())
    }

    /// Sets aside room for spooled bytes.
    fn reserve_spooled(&self, bytes: u64) -> Result<(), StoreError> {
        let reserved = self.0.host.store.reserve_spooled(bytes);
        self.leave_evicted();
        reserved
    }

    /// Makes `file`, whose bytes have these `hashes`, a layer.
    fn adopt(
        &self,
        file: NamedTempFile,
        content: &ContentId,
        geometry: Geometry,
        origin: &str,
        hashes: Hashes,
    ) -> Result<Arc<StoredLayer>, StoreError> {
        let store = &self.0.host.store;
        let adopted = store.adopt(file, content, geometry, origin, hashes);
        self.leave_evicted();
        adopted
    }
}

impl Spool {
    fn new(engine: Engine) -> Self {
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
    pub fn into_layer(
        mut self,
        digest: &Digest,
        origin: &str,
    ) -> Result<Arc<StoredLayer>, SpoolError> {
        let length = self.length;
        let geometry = Geometry::for_length(length)?;
        let engine = self.room.engine.clone();
        let file = self.file.take();
        let file = file.map_or_else(|| engine.store().spool_file(), Ok)?;
        let hashes = Hashes::of(file.as_file(), &geometry, digest.algorithm());
        let hashes = hashes.map_err(|error| StoreError::io(file.path(), error))?;
        if hashes.whole != *digest {
            return Err(SpoolError::OtherBytes {
                expected: Box::new(digest.clone()),
                found: Box::new(hashes.whole),
            });
        }
        // What was cut off would follow the layer's bytes.
        let cut = file.as_file().set_len(length);
        cut.map_err(|error| StoreError::io(file.path(), error))?;
        // The layer takes the place of the spool.
        drop(self);
        let content = ContentId::blob(digest);
        Ok(engine.adopt(file, &content, geometry, origin, hashes)?)
    }
}

impl Drop for Spool {
    /// Removing a large file takes a while, away from the reactor.
    fn drop(&mut self) {
        if let (Some(file), Ok(runtime)) = (self.file.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_torrents::DigestHasher;
    use tempfile::TempDir;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::engine::EngineConfig;

    const ORIGIN: &str = "http://registry";

    async fn engine(dir: &TempDir, cache_quota: u64) -> (Engine, CancellationToken) {
        let config = EngineConfig {
            data_dir: dir.path().to_owned(),
            cache_quota,
            upload_rate: None,
            download_rate: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        (
            Engine::start(&config, listener, stop.clone()).unwrap(),
            stop,
        )
    }

    fn spooled(dir: &TempDir) -> usize {
        std::fs::read_dir(dir.path().join("spool")).unwrap().count()
    }

    #[tokio::test]
    async fn spooled_bytes_become_a_layer_that_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, stop) = engine(&dir, 1 << 30).await;
        let blob: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
        let digest = DigestHasher::sha256_of(&blob);
        let mut spool = engine.spool();
        spool.append(&blob[..300_000]).unwrap();
        spool.append(b"sent and refused").unwrap();
        spool.truncate(300_000);
        spool.append(&blob[300_000..]).unwrap();
        let layer = spool.into_layer(&digest, ORIGIN).unwrap();
        assert_eq!(layer.read(0, blob.len()).unwrap(), blob);
        assert_eq!(layer.origin(), ORIGIN);
        drop(layer);
        stop.cancel();
        engine.stopped().await;
        drop(engine);
        let store = crate::store::Store::open(dir.path(), 1 << 30).unwrap();
        let layer = store.layer(&ContentId::blob(&digest)).unwrap();
        assert_eq!(layer.sealed(), Some(digest));
    }

    #[tokio::test]
    async fn other_bytes_become_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _stop) = engine(&dir, 1 << 30).await;
        let mut spool = engine.spool();
        spool.append(b"some bytes").unwrap();
        let other = DigestHasher::sha256_of(b"other bytes");
        let made = spool.into_layer(&other, ORIGIN);
        assert!(matches!(made, Err(SpoolError::OtherBytes { .. })));
        assert!(engine.store().layers().is_empty());
        assert_eq!(spooled(&dir), 0);
    }

    #[tokio::test]
    async fn a_layer_that_is_about_to_arrive_is_left_to_its_swarm() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _stop) = engine(&dir, 1 << 30).await;
        let digest = DigestHasher::sha256_of(b"some bytes");
        let (content, geometry) = (ContentId::blob(&digest), Geometry::for_length(10).unwrap());
        engine.join(&content, geometry, ORIGIN).await.unwrap();
        let mut spool = engine.spool();
        spool.append(b"some bytes").unwrap();
        let made = spool.into_layer(&digest, ORIGIN);
        assert!(matches!(
            made,
            Err(SpoolError::Store(StoreError::Arriving { .. }))
        ));
    }

    #[tokio::test]
    async fn spools_share_a_part_of_the_quota() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _stop) = engine(&dir, 1000).await;
        let (mut first, mut second) = (engine.spool(), engine.spool());
        first.append(&[1; 300]).unwrap();
        let refused = second.append(&[2; 201]);
        assert!(matches!(refused, Err(StoreError::Full { .. })));
        drop(first);
        second.append(&[2; 500]).unwrap();
    }

    #[tokio::test]
    async fn what_a_crash_left_is_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("spool")).unwrap();
        std::fs::write(dir.path().join("spool/left"), b"half").unwrap();
        let (_engine, _stop) = engine(&dir, 1000).await;
        assert_eq!(spooled(&dir), 0);
    }
}
