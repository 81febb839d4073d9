//! The piece store: layers on the disk, within a quota.
//!
//! `<data-dir>/layers/<content>/` holds `data` (the bytes, sparse until complete), `pieces`
//! (the [journal](journal)) and `layer.json`. Content that is too small for that is in the
//! [packs](packs) below `<data-dir>/packs/`. `<data-dir>/spool/` holds bytes that may become
//! layers, and nothing that outlives the process.

mod audit;
mod held;
mod journal;
mod layer_record;
mod pack_file;
mod packs;
mod recorder;
mod small;
mod stored_layer;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use flotilla_torrents::{ContentId, Digest, Geometry};
use rustix::fs::FlockOperation;
use tempfile::NamedTempFile;

pub use self::audit::LayerAudit;
use self::held::{Held, Layers};
pub(crate) use self::journal::Journal;
use self::packs::Packs;
use self::recorder::Recorder;
pub(crate) use self::small::SmallEntry;
pub use self::stored_layer::{Lease, StoredLayer};
use crate::spool::Hashes;

/// Of the quota, one part in so many may be spooled: what may become a layer must not push out
/// most of those that are.
const SPOOL_SHARE: u64 = 2;

/// Layers that left to make room; their swarms are to be left as well.
pub type Evicted = Vec<Arc<StoredLayer>>;

/// The store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the store is not what this version writes.
    #[error("{path} is malformed: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The layer came from another source, which alone can say who may have it.
    #[error("the layer came from {known}, not from {asked}")]
    OtherOrigin {
        /// Where it came from.
        known: String,
        /// Where it was asked for now.
        asked: String,
    },
    /// The bytes of a layer are not what they were when it was complete.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process owns the data directory.
    #[error("data directory {path} is in use by another flotilla; give each its own --data-dir")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The layer arrives from the swarm already.
    #[error("the layer {content} arrives in another way")]
    Arriving {
        /// What it is.
        content: ContentId,
    },
    /// The quota is taken by layers in use and pinned ones.
    #[error(
        "cache quota of {quota} bytes has no room for {wanted} bytes beside the layers in use and the pinned ones"
    )]
    Full {
        /// The quota.
        quota: u64,
        /// The size asked for.
        wanted: u64,
    },
}

impl StoreError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// Why a layer was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// There is no such layer.
    #[error("not here")]
    Absent,
    /// It is never evicted.
    #[error("pinned")]
    Pinned,
    /// Somebody downloads, reads or uploads it.
    #[error("in use")]
    InUse,
    /// The disk refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All layers of this host.
#[derive(Debug)]
pub struct Store {
    /// Locked while the store is open: two processes would write into each other's layers.
    _lock: File,
    data_dir: PathBuf,
    root: PathBuf,
    packs: PathBuf,
    spool: PathBuf,
    quota: u64,
    layers: Arc<Mutex<Held>>,
    /// Sources that trust each other's word on who may have a layer.
    shared_origins: RwLock<HashSet<String>>,
    recorder: Recorder,
}

impl Store {
    /// Opens the store below `data_dir`, finding the layers of earlier runs. One that a crash
    /// left at its very beginning, or whose bytes are gone, is cleared away; one that cannot be
    /// understood is left alone and logged. `quota`: bytes.
    ///
    /// # Errors
    /// The directory cannot be created or read.
    pub fn open(data_dir: &Path, quota: u64) -> Result<Self, StoreError> {
        let root = data_dir.join("layers");
        std::fs::create_dir_all(&root).map_err(|e| StoreError::io(&root, e))?;
        let lock = lock(data_dir)?;
        let spool = data_dir.join("spool");
        clear(&spool).map_err(|e| StoreError::io(&spool, e))?;
        let mut layers = Layers::default();
        for entry in std::fs::read_dir(&root).map_err(|e| StoreError::io(&root, e))? {
            let dir = entry.map_err(|e| StoreError::io(&root, e))?.path();
            if is_blank(&dir) {
                std::fs::remove_dir_all(&dir).map_err(|e| StoreError::io(&dir, e))?;
                continue;
            }
            match StoredLayer::open(dir.clone()) {
                Ok(layer) => {
                    layers.insert(Arc::new(layer));
                }
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::warn!(%error, "layer cleared away");
                    std::fs::remove_dir_all(&dir).map_err(|e| StoreError::io(&dir, e))?;
                }
                Err(error) => tracing::warn!(%error, "layer left alone"),
            }
        }
        let dir = data_dir.join("packs");
        let packs = Packs::open(dir.clone()).map_err(|e| StoreError::io(&dir, e))?;
        let layers = Arc::new(Mutex::new(Held {
            layers,
            packs,
            spooled: 0,
        }));
        let recorder = Recorder::start(Arc::clone(&layers));
        Ok(Self {
            _lock: lock,
            data_dir: data_dir.to_owned(),
            root,
            packs: dir,
            spool,
            quota,
            layers,
            shared_origins: RwLock::default(),
            recorder: recorder.map_err(|e| StoreError::io(data_dir, e))?,
        })
    }

    /// The directory that it is in.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Bytes that the layers may take.
    pub fn quota(&self) -> u64 {
        self.quota
    }

    /// Whether it is here, or something of it.
    pub fn has_content(&self, content: &ContentId) -> bool {
        let held = self.lock();
        held.layers.get(content).is_some() || held.packs.get(content).is_some()
    }

    /// The layer, if anything of it is here.
    pub fn layer(&self, content: &ContentId) -> Option<Arc<StoredLayer>> {
        self.lock().layers.get(content).cloned()
    }

    /// Every layer.
    pub fn layers(&self) -> Vec<Arc<StoredLayer>> {
        self.lock().layers.values().cloned().collect()
    }

    /// The layer with this geometry, created when it is not here; room is made by evicting
    /// the least recently used layers that nobody uses and that are not pinned. Also returns
    /// what was evicted.
    /// `origin`: scheme, host and port of its source.
    ///
    /// # Errors
    /// The disk refused, the quota is taken by layers in use and pinned ones, or the layer that
    /// is here came from another source.
    pub fn layer_or_create(
        &self,
        content: &ContentId,
        geometry: Geometry,
        origin: &str,
    ) -> Result<(Arc<StoredLayer>, Evicted), StoreError> {
        let mut held = self.lock();
        if let Some(layer) = held.layers.get(content) {
            self.check_origin(layer.origin(), origin)?;
            if layer.geometry() != geometry {
                // Same content, other cut: an older version's; nobody can use it any more.
                held.layers.remove(content)?;
            } else if layer.is_untouched() {
                return Ok((Arc::clone(layer), Vec::new()));
            } else {
                tracing::warn!(%content, "written by somebody else: anew");
                layer.condemn();
                held.layers.remove(content)?;
            }
        }
        let evicted = held.make_room(self.quota, geometry.length())?;
        let dir = self.root.join(content.file_stem());
        let layer = Arc::new(StoredLayer::create(dir, content.clone(), geometry, origin)?);
        held.layers.insert(Arc::clone(&layer));
        Ok((layer, evicted))
    }

    /// Makes `file`, whose bytes have these `hashes`, a complete layer. One that is here complete
    /// stays, one that is not is left to the swarm that brings it. Also returns what was evicted.
    ///
    /// # Errors
    /// As [`layer_or_create`](Self::layer_or_create), or the layer is about to arrive.
    pub(crate) fn adopt(
        &self,
        file: NamedTempFile,
        content: &ContentId,
        geometry: Geometry,
        origin: &str,
        hashes: Hashes,
    ) -> Result<(Arc<StoredLayer>, Evicted), StoreError> {
        let mut held = self.lock();
        if let Some(layer) = held.layers.get(content) {
            self.check_origin(layer.origin(), origin)?;
            return match layer.sealed() {
                Some(_) => Ok((Arc::clone(layer), Vec::new())),
                None => Err(StoreError::Arriving {
                    content: content.clone(),
                }),
            };
        }
        let evicted = held.make_room(self.quota, geometry.length())?;
        let dir = self.root.join(content.file_stem());
        let layer = StoredLayer::create_from(file, dir, content.clone(), geometry, origin)?;
        layer.hold_all(hashes.pieces);
        layer.seal(hashes.sha256);
        let layer = Arc::new(layer);
        held.layers.insert(Arc::clone(&layer));
        self.recorder.record(Arc::clone(&layer));
        Ok((layer, evicted))
    }

    /// An empty file that is gone when it is closed.
    pub(crate) fn spool_file(&self) -> Result<NamedTempFile, StoreError> {
        NamedTempFile::new_in(&self.spool).map_err(|e| StoreError::io(&self.spool, e))
    }

    /// Sets so many bytes of the quota aside, until
    /// [`release_spooled`](Self::release_spooled). Returns what was evicted for them.
    pub(crate) fn reserve_spooled(&self, bytes: u64) -> Result<Evicted, StoreError> {
        let mut held = self.lock();
        let share = self.quota / SPOOL_SHARE;
        if held.spooled.saturating_add(bytes) > share {
            return Err(StoreError::Full {
                quota: share,
                wanted: bytes,
            });
        }
        let evicted = held.make_room(self.quota, bytes)?;
        held.spooled = held.spooled.saturating_add(bytes);
        Ok(evicted)
    }

    pub(crate) fn release_spooled(&self, bytes: u64) {
        let mut held = self.lock();
        held.spooled = held.spooled.saturating_sub(bytes);
    }

    /// The whole of `layer` was compared with its digest: `sha256` is the hash of all bytes.
    /// It is recorded soon.
    pub fn seal(&self, layer: &Arc<StoredLayer>, sha256: Digest) {
        layer.seal(sha256);
        self.recorder.record(Arc::clone(layer));
    }

    /// Writes and seals the whole of a small layer, unless that was done before; `sha256` is the
    /// hash of `bytes`, which were compared with its digest.
    ///
    /// # Errors
    /// The disk refused.
    pub fn complete(
        &self,
        layer: &Arc<StoredLayer>,
        bytes: &[u8],
        sha256: Digest,
    ) -> Result<(), StoreError> {
        let completed = layer.complete(bytes, sha256);
        if completed.map_err(|e| StoreError::io(&layer.data_path(), e))? {
            self.recorder.record(Arc::clone(layer));
        }
        Ok(())
    }

    /// From now on the word of each of these sources counts for the layers of all of them.
    pub fn share_origins(&self, origins: impl IntoIterator<Item = String>) {
        let shared = &self.shared_origins;
        let mut shared = shared.write().unwrap_or_else(PoisonError::into_inner);
        shared.extend(origins);
    }

    /// Sources that trust each other's word.
    pub fn shared_origins(&self) -> Vec<String> {
        let shared = &self.shared_origins;
        let shared = shared.read().unwrap_or_else(PoisonError::into_inner);
        shared.iter().cloned().collect()
    }

    /// Whether the word of `origin` counts on who may have what came from `known`. Who knows a digest may not
    /// have the layer for it: a source of the caller's choice would let him in.
    ///
    /// # Errors
    /// They are two sources that do not share theirs.
    pub fn check_origin(&self, known: &str, origin: &str) -> Result<(), StoreError> {
        let shared = &self.shared_origins;
        let shared = shared.read().unwrap_or_else(PoisonError::into_inner);
        if known == origin || (shared.contains(known) && shared.contains(origin)) {
            return Ok(());
        }
        Err(StoreError::OtherOrigin {
            known: known.to_owned(),
            asked: origin.to_owned(),
        })
    }

    /// Removes a layer or small content, whoever uses it. Readers that have it open keep their
    /// file until they close it.
    ///
    /// # Errors
    /// The disk refused.
    pub fn remove(&self, content: &ContentId) -> Result<(), StoreError> {
        self.remove_small(content);
        self.lock().layers.remove(content)
    }

    /// As [`remove`](Self::remove), but this very layer (void) and not one that has taken its
    /// place.
    ///
    /// # Errors
    /// The disk refused.
    pub fn remove_layer(&self, layer: &Arc<StoredLayer>) -> Result<(), StoreError> {
        let layers = &mut self.lock().layers;
        match layers.get(layer.content()) {
            Some(known) if Arc::ptr_eq(known, layer) => layers.remove(layer.content()),
            _ => Ok(()),
        }
    }

    /// Removes what is no longer wanted, unless it is pinned or in use; returns the layer, which
    /// small content is not.
    ///
    /// # Errors
    /// It is still here, or was not.
    pub fn discard(&self, content: &ContentId) -> Result<Option<Arc<StoredLayer>>, RemoveError> {
        let was_small = self.remove_small(content);
        let layers = &mut self.lock().layers;
        let Some(layer) = layers.get(content).cloned() else {
            return if was_small {
                Ok(None)
            } else {
                Err(RemoveError::Absent)
            };
        };
        if layer.is_pinned() {
            return Err(RemoveError::Pinned);
        }
        if layer.is_leased() {
            return Err(RemoveError::InUse);
        }
        layers.remove(content)?;
        tracing::info!(%content, "removed");
        Ok(Some(layer))
    }

    /// Removes a layer whose bytes were found damaged, also when it is pinned or in use. From
    /// now on nobody is given anything of it; who reads it is told by its swarm.
    ///
    /// # Errors
    /// The disk refused.
    pub fn condemn(&self, layer: &Arc<StoredLayer>) -> Result<(), StoreError> {
        layer.condemn();
        self.remove_layer(layer)
    }

    /// Pins a layer, so that it is never evicted, or gives it free. `None`: it is not here; small
    /// content has to be [unpacked](Self::unpack).
    ///
    /// # Errors
    /// The disk refused; a restart may forget it.
    pub fn set_pinned(&self, content: &ContentId, pinned: bool) -> Option<Result<(), StoreError>> {
        let layer = {
            let held = self.lock();
            let layer = Arc::clone(held.layers.get(content)?);
            layer.set_pinned(pinned);
            layer
        };
        let recorded = layer.record_pin();
        Some(recorded.map_err(|e| StoreError::io(layer.dir(), e)))
    }

    /// Whether this very layer is here, and not one that has taken its place.
    pub fn has(&self, layer: &Arc<StoredLayer>) -> bool {
        let held = self.lock();
        let known = held.layers.get(layer.content());
        known.is_some_and(|known| Arc::ptr_eq(known, layer))
    }

    /// Bytes that everything takes that is here, layers when complete.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the directory is a layer's whose record never reached the disk.
fn is_blank(dir: &Path) -> bool {
    let record = std::fs::metadata(dir.join(layer_record::RECORD));
    dir.is_dir()
        && match record {
            Ok(record) => record.len() == 0,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
}

fn lock(data_dir: &Path) -> Result<File, StoreError> {
    let path = data_dir.join("lock");
    let lock = File::create(&path).map_err(|e| StoreError::io(&path, e))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse {
            path: data_dir.to_owned(),
        }),
        Err(error) => Err(StoreError::io(&path, error.into())),
    }
}

/// An empty directory.
fn clear(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::create_dir(dir)
}

#[cfg(test)]
mod tests {
    use flotilla_torrents::DigestHasher;

    use super::*;

    fn create(store: &Store, length: u64) -> Result<Vec<Arc<StoredLayer>>, StoreError> {
        let content = ContentId::blob(&DigestHasher::sha256_of(&length.to_be_bytes()));
        let geometry = Geometry::for_length(length).unwrap();
        let created = store.layer_or_create(&content, geometry, "http://registry");
        created.map(|(_, evicted)| evicted)
    }

    #[test]
    fn what_cannot_have_room_evicts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 1000).unwrap();
        assert!(create(&store, 300).unwrap().is_empty());
        assert!(create(&store, 400).unwrap().is_empty());
        let leased = store.layers().into_iter().next().unwrap();
        let lease = leased.lease();
        for wanted in [1001, 1000 - leased.geometry().length() + 1] {
            let refused = create(&store, wanted);
            assert!(matches!(refused, Err(StoreError::Full { .. })));
            assert_eq!(store.bytes(), 700, "{wanted} bytes");
        }
        drop(lease);
        assert_eq!(create(&store, 1000).unwrap().len(), 2);
    }

    fn create_whole(store: &Store, bytes: &[u8]) -> Arc<StoredLayer> {
        let sha256 = DigestHasher::sha256_of(bytes);
        let geometry = Geometry::for_length(bytes.len() as u64).unwrap();
        let content = ContentId::blob(&sha256);
        let (layer, _) = store
            .layer_or_create(&content, geometry, "http://registry")
            .unwrap();
        store.complete(&layer, bytes, sha256).unwrap();
        layer
    }

    #[test]
    fn a_pinned_layer_stays_also_after_a_restart_until_it_is_free_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 1000).unwrap();
        let content = create_whole(&store, &[1; 600]).content().clone();
        store.set_pinned(&content, true).unwrap().unwrap();
        let full = |store: &Store| matches!(create(store, 500), Err(StoreError::Full { .. }));
        assert!(full(&store));
        drop(store);

        let store = Store::open(dir.path(), 1000).unwrap();
        assert!(store.layer(&content).unwrap().is_pinned());
        assert!(full(&store));
        assert!(matches!(store.discard(&content), Err(RemoveError::Pinned)));
        store.set_pinned(&content, false).unwrap().unwrap();
        assert_eq!(create(&store, 500).unwrap().len(), 1);
        assert!(store.set_pinned(&content, true).is_none());
    }

    #[test]
    fn the_order_of_eviction_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 1000).unwrap();
        let first = create_whole(&store, &[1; 300]);
        let second = create_whole(&store, &[2; 300]);
        // The first one is used last, which nothing but the clock says.
        while now() <= second.last_used() {}
        drop(first.lease());
        let (first, second) = (first.content().clone(), second.content().clone());
        drop(store);

        let store = Store::open(dir.path(), 1000).unwrap();
        let evicted = create(&store, 500).unwrap();
        assert_eq!(evicted.len(), 1);
        assert_eq!(evicted[0].content(), &second);
        assert!(store.layer(&first).is_some());
    }

    fn now() -> u64 {
        layer_record::now_millis()
    }

    #[test]
    fn a_record_of_an_earlier_version_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 1000).unwrap();
        let layer = create_whole(&store, &[1; 600]);
        let (content, record) = (layer.content().clone(), layer.dir().join("layer.json"));
        drop(store);
        let text = std::fs::read_to_string(&record).unwrap();
        assert!(!text.contains("pinned") && !text.contains("url"), "{text}");
        let store = Store::open(dir.path(), 1000).unwrap();
        let layer = store.layer(&content).unwrap();
        assert!(layer.sealed().is_some() && !layer.is_pinned());
    }

    #[test]
    fn a_complete_layer_whose_bytes_were_cut_off_or_taken_away_is_cleared_away() {
        for cut in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path(), 1000).unwrap();
            let layer = create_whole(&store, &[1; 600]);
            let (content, data) = (layer.content().clone(), layer.data_path());
            drop(store);
            if cut {
                let data = File::options().write(true).open(&data).unwrap();
                data.set_len(599).unwrap();
            } else {
                std::fs::remove_file(&data).unwrap();
            }
            let store = Store::open(dir.path(), 1000).unwrap();
            assert!(store.layer(&content).is_none());
            assert!(!data.parent().unwrap().exists());
        }
    }

    #[test]
    fn foreign_writes_to_a_complete_layer_are_noticed_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 1000).unwrap();
        let layer = create_whole(&store, &[1; 600]);
        let (content, geometry) = (layer.content().clone(), layer.geometry());
        // Recorded from now on.
        drop((layer, store));
        let store = Store::open(dir.path(), 1000).unwrap();
        let layer = store.layer(&content).unwrap();
        let data = File::options().write(true).open(layer.data_path()).unwrap();
        let write = |at: u64| {
            data.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(at))
                .unwrap();
        };
        assert_eq!(&layer.read(0, 3).unwrap()[..], [1; 3]);
        write(1);
        assert!(layer.read(0, 3).is_err());
        assert!(layer.audit(&|| false).unwrap().is_intact());
        assert!(layer.read(0, 3).is_ok(), "every byte was compared");
        drop((layer, store));

        let store = Store::open(dir.path(), 1000).unwrap();
        assert!(store.layer(&content).unwrap().read(0, 3).is_ok());
        drop(store);
        write(2);
        let store = Store::open(dir.path(), 1000).unwrap();
        assert!(store.layer(&content).unwrap().read(0, 3).is_err());
        let anew = store.layer_or_create(&content, geometry, "http://registry");
        assert!(anew.unwrap().0.held().is_empty());
    }

    #[test]
    fn what_was_found_damaged_is_given_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 1000).unwrap();
        let layer = create_whole(&store, &[1; 600]);
        let _lease = layer.lease();
        assert!(layer.audit(&|| false).unwrap().is_intact());
        std::fs::write(layer.data_path(), [2; 600]).unwrap();
        let audit = layer.audit(&|| false).unwrap();
        assert_eq!(audit.damaged.count(), 1);
        store.condemn(&layer).unwrap();
        assert!(layer.sealed().is_none() && layer.held().is_empty());
        assert!(store.layer(layer.content()).is_none());
    }
}
