//! The piece store: layers on the disk, within a quota.
//!
//! `<data-dir>/layers/<content>/` holds `data` (the bytes, sparse until complete), `pieces`
//! (the [journal](journal)) and `layer.json`. `<data-dir>/spool/` holds bytes that may become
//! layers, and nothing that outlives the process.

mod journal;
mod recorder;
mod stored_layer;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use flotilla_torrents::{ContentId, Digest, Geometry};
use rustix::fs::FlockOperation;
use tempfile::NamedTempFile;

pub(crate) use self::journal::Journal;
use self::recorder::Recorder;
pub use self::stored_layer::{Lease, StoredLayer};
use crate::spool::Hashes;

/// Of the quota, one part in so many may be spooled: what may become a layer must not push out
/// most of those that are.
const SPOOL_SHARE: u64 = 2;

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
    /// The quota is taken by layers in use.
    #[error("cache quota of {quota} bytes has no room for {wanted} bytes beside the layers in use")]
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

/// All layers of this host.
#[derive(Debug)]
pub struct Store {
    /// Locked while the store is open: two processes would write into each other's layers.
    _lock: File,
    root: PathBuf,
    spool: PathBuf,
    quota: u64,
    layers: Mutex<Held>,
    /// Sources that trust each other's word on who may have a layer.
    shared_origins: RwLock<HashSet<String>>,
    recorder: Recorder,
}

impl Store {
    /// Opens the store below `data_dir`, finding the layers of earlier runs. One that a crash
    /// left at its very beginning is cleared away; one that cannot be understood is left alone
    /// and logged. `quota`: bytes.
    ///
    /// # Errors
    /// The directory cannot be created or read.
    pub fn open(data_dir: &Path, quota: u64) -> Result<Self, StoreError> {
        let root = data_dir.join("layers");
        std::fs::create_dir_all(&root).map_err(|e| StoreError::io(&root, e))?;
        let lock = lock(data_dir)?;
        let spool = data_dir.join("spool");
        clear(&spool).map_err(|e| StoreError::io(&spool, e))?;
        let mut layers = HashMap::new();
        for entry in std::fs::read_dir(&root).map_err(|e| StoreError::io(&root, e))? {
            let dir = entry.map_err(|e| StoreError::io(&root, e))?.path();
            if is_blank(&dir) {
                std::fs::remove_dir_all(&dir).map_err(|e| StoreError::io(&dir, e))?;
                continue;
            }
            match StoredLayer::open(dir) {
                Ok(layer) => {
                    layers.insert(layer.content().clone(), Arc::new(layer));
                }
                Err(error) => tracing::warn!(%error, "layer left alone"),
            }
        }
        Ok(Self {
            _lock: lock,
            root,
            spool,
            quota,
            layers: Mutex::new(Held { layers, spooled: 0 }),
            shared_origins: RwLock::default(),
            recorder: Recorder::start().map_err(|e| StoreError::io(data_dir, e))?,
        })
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
    /// the least recently used layers that nobody uses. Also returns what was evicted.
    /// `origin`: scheme, host and port of its source.
    ///
    /// # Errors
    /// The disk refused, the quota is taken by layers in use, or the layer that is here came
    /// from another source.
    pub fn layer_or_create(
        &self,
        content: &ContentId,
        geometry: Geometry,
        origin: &str,
    ) -> Result<(Arc<StoredLayer>, Vec<Arc<StoredLayer>>), StoreError> {
        let mut held = self.lock();
        if let Some(layer) = held.layers.get(content) {
            self.check_origin(layer, origin)?;
            if layer.geometry() == geometry {
                return Ok((Arc::clone(layer), Vec::new()));
            }
            // Same content, other cut: an older version's; nobody can use it any more.
            remove(&mut held.layers, content)?;
        }
        let evicted = held.make_room(self.quota, geometry.length())?;
        let dir = self.root.join(content.file_stem());
        let layer = Arc::new(StoredLayer::create(dir, content.clone(), geometry, origin)?);
        held.layers.insert(content.clone(), Arc::clone(&layer));
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
    ) -> Result<(Arc<StoredLayer>, Vec<Arc<StoredLayer>>), StoreError> {
        let mut held = self.lock();
        if let Some(layer) = held.layers.get(content) {
            self.check_origin(layer, origin)?;
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
        held.layers.insert(content.clone(), Arc::clone(&layer));
        self.recorder.record(Arc::clone(&layer));
        Ok((layer, evicted))
    }

    /// An empty file that is gone when it is closed.
    pub(crate) fn spool_file(&self) -> Result<NamedTempFile, StoreError> {
        NamedTempFile::new_in(&self.spool).map_err(|e| StoreError::io(&self.spool, e))
    }

    /// Sets so many bytes of the quota aside, until
    /// [`release_spooled`](Self::release_spooled). Returns what was evicted for them.
    pub(crate) fn reserve_spooled(&self, bytes: u64) -> Result<Vec<Arc<StoredLayer>>, StoreError> {
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

    /// Whether the word of `origin` counts on who may have `layer`. Who knows a digest may not
    /// have the layer for it: a source of the caller's choice would let him in.
    ///
    /// # Errors
    /// The layer came from another source, and the two do not share theirs.
    pub fn check_origin(&self, layer: &StoredLayer, origin: &str) -> Result<(), StoreError> {
        let shared = &self.shared_origins;
        let shared = shared.read().unwrap_or_else(PoisonError::into_inner);
        let known = layer.origin();
        if known == origin || (shared.contains(known) && shared.contains(origin)) {
            return Ok(());
        }
        Err(StoreError::OtherOrigin {
            known: known.to_owned(),
            asked: origin.to_owned(),
        })
    }

    /// Removes a layer (void, or no longer wanted). Readers that have it open keep their
    /// file until they close it.
    ///
    /// # Errors
    /// The disk refused.
    pub fn remove(&self, content: &ContentId) -> Result<(), StoreError> {
        remove(&mut self.lock().layers, content)
    }

    /// Bytes that the layers take when complete.
    pub fn bytes(&self) -> u64 {
        taken(&self.lock().layers)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the directory is a layer's whose record never reached the disk.
fn is_blank(dir: &Path) -> bool {
    let record = std::fs::metadata(dir.join(stored_layer::RECORD));
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

type Layers = HashMap<ContentId, Arc<StoredLayer>>;

/// What takes room.
#[derive(Debug)]
struct Held {
    layers: Layers,
    /// Bytes set aside for what may become layers.
    spooled: u64,
}

fn taken(layers: &Layers) -> u64 {
    layers.values().map(|layer| layer.geometry().length()).sum()
}

impl Held {
    fn make_room(&mut self, quota: u64, wanted: u64) -> Result<Vec<Arc<StoredLayer>>, StoreError> {
        let needed = wanted.saturating_add(self.spooled);
        let layers = &mut self.layers;
        // What cannot have room anyway costs no other layer its place.
        let leased = layers.values().filter(|layer| layer.is_leased());
        let lasting: u64 = leased.map(|layer| layer.geometry().length()).sum();
        if lasting.saturating_add(needed) > quota {
            return Err(StoreError::Full { quota, wanted });
        }
        let mut evicted = Vec::new();
        while taken(layers).saturating_add(needed) > quota {
            let idle = layers.values().filter(|layer| !layer.is_leased());
            let Some(oldest) = idle.min_by_key(|layer| layer.last_used()).cloned() else {
                return Err(StoreError::Full { quota, wanted });
            };
            tracing::info!(content = %oldest.content(), "evicted");
            remove(layers, oldest.content())?;
            evicted.push(oldest);
        }
        Ok(evicted)
    }
}

fn remove(layers: &mut Layers, content: &ContentId) -> Result<(), StoreError> {
    let Some(layer) = layers.remove(content) else {
        return Ok(());
    };
    match std::fs::remove_dir_all(layer.dir()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io(layer.dir(), error))
        }
        _ => Ok(()),
    }
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
}
