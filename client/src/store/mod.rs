//! The piece store: layers on the disk, within a quota.
//!
//! `<data-dir>/layers/<content>/` holds `data` (the bytes, sparse until complete), `pieces`
//! (the [journal]) and `layer.json`. Content that is too small for that is in the
//! [packs] below `<data-dir>/packs/`. `<data-dir>/spool/` holds bytes that may become
//! layers, and nothing that outlives the process.

mod audit;
mod checked_pieces;
mod error;
mod hashes;
mod inventory;
mod journal;
mod layer_record;
mod pack_file;
mod packs;
pub mod placement;
pub mod private_dir;
mod recorder;
mod small_blobs;
pub mod small_content;
mod stored_layer;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla_torrents::{ContentId, Digest, Geometry};
use parking_lot::{Mutex, RwLock};
use tempfile::NamedTempFile;

pub use self::audit::LayerAudit;
pub use self::error::{RemoveError, StoreError};
pub(crate) use self::hashes::{Hashes, whole_digest};
use self::inventory::{Inventory, Layers};
pub(crate) use self::journal::Journal;
use self::packs::Packs;
use self::recorder::Recorder;
pub(crate) use self::small_blobs::SmallEntry;
pub use self::stored_layer::{DamagedPiece, Lease, StoredLayer};

/// The spool may take one in this many parts of the quota: what may become a layer must not push out
/// most of those that are.
const SPOOL_SHARE: u64 = 2;

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
    layers: Arc<Mutex<Inventory>>,
    /// Sources that trust each other's word on who may have a layer.
    shared_origins: RwLock<HashSet<String>>,
    recorder: Recorder,
    deleting: Mutex<()>,
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
        let mut layers = Layers::new(root.clone());
        for entry in std::fs::read_dir(&root).map_err(|e| StoreError::io(&root, e))? {
            let dir = entry.map_err(|e| StoreError::io(&root, e))?.path();
            if is_removed(&dir) || is_blank(&dir) {
                std::fs::remove_dir_all(&dir).map_err(|e| StoreError::io(&dir, e))?;
                continue;
            }
            match StoredLayer::open(dir.clone()) {
                Ok(layer) => {
                    layers.insert(Arc::new(layer));
                }
                Err(error @ StoreError::Damaged { .. }) => {
                    tracing::warn!(%error, "damaged layer removed");
                    std::fs::remove_dir_all(&dir).map_err(|e| StoreError::io(&dir, e))?;
                }
                Err(error) => tracing::warn!(%error, "unreadable layer left in place"),
            }
        }
        let dir = data_dir.join("packs");
        let packs = Packs::open(dir.clone()).map_err(|e| StoreError::io(&dir, e))?;
        let layers = Arc::new(Mutex::new(Inventory {
            layers,
            packs,
            spooled: 0,
            evicted: Vec::new(),
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
            deleting: Mutex::new(()),
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
        let inventory = self.lock();
        inventory.layers.get(content).is_some() || inventory.packs.get(content).is_some()
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
    /// the least recently used layers that are neither used nor pinned.
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
    ) -> Result<Arc<StoredLayer>, StoreError> {
        self.change(|inventory| {
            if let Some(layer) = inventory.layers.get(content) {
                self.check_origin(layer.origin(), origin)?;
                if layer.geometry() != geometry {
                    // Cut into other pieces, so that its hashes and journal say nothing of these.
                    inventory.layers.remove(content)?;
                } else if layer.is_untouched() {
                    return Ok(Arc::clone(layer));
                } else {
                    tracing::warn!(%content, "layer changed by another process, fetching it again");
                    layer.quarantine();
                    inventory.layers.remove(content)?;
                }
            }
            inventory.make_room(self.quota, geometry.length())?;
            let dir = self.root.join(content.file_stem());
            let layer = StoredLayer::create(dir, content.clone(), geometry, origin)?;
            let layer = Arc::new(layer);
            inventory.layers.insert(Arc::clone(&layer));
            Ok(layer)
        })
    }

    /// Makes `file`, whose bytes have these `hashes`, a complete layer. One that is here complete
    /// stays, one that is not is left to the swarm that brings it.
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
    ) -> Result<Arc<StoredLayer>, StoreError> {
        self.change(|inventory| {
            if let Some(layer) = inventory.layers.get(content) {
                self.check_origin(layer.origin(), origin)?;
                return match layer.sealed() {
                    Some(_) => Ok(Arc::clone(layer)),
                    None => Err(StoreError::Arriving {
                        content: content.clone(),
                    }),
                };
            }
            inventory.make_room(self.quota, geometry.length())?;
            let dir = self.root.join(content.file_stem());
            let layer = StoredLayer::create_from(file, dir, content.clone(), geometry, origin)?;
            layer.hold_all(hashes.pieces);
            layer.seal(hashes.sha256);
            let layer = Arc::new(layer);
            inventory.layers.insert(Arc::clone(&layer));
            self.recorder.record(Arc::clone(&layer));
            Ok(layer)
        })
    }

    /// An empty file that is gone when it is closed.
    pub(crate) fn spool_file(&self) -> Result<NamedTempFile, StoreError> {
        NamedTempFile::new_in(&self.spool).map_err(|e| StoreError::io(&self.spool, e))
    }

    /// Sets `bytes` of the quota aside, until
    /// [`release_spooled`](Self::release_spooled).
    pub(crate) fn reserve_spooled(&self, bytes: u64) -> Result<(), StoreError> {
        self.change(|inventory| {
            let share = self.quota / SPOOL_SHARE;
            if inventory.spooled.saturating_add(bytes) > share {
                return Err(StoreError::Full {
                    quota: share,
                    wanted: bytes,
                });
            }
            inventory.make_room(self.quota, bytes)?;
            inventory.spooled = inventory.spooled.saturating_add(bytes);
            Ok(())
        })
    }

    pub(crate) fn release_spooled(&self, bytes: u64) {
        let mut inventory = self.lock();
        inventory.spooled = inventory.spooled.saturating_sub(bytes);
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

    /// The disk is full although the quota is not: evicts what was not used for the longest time, until
    /// `bytes` have left. Returns whether anything has.
    pub(crate) fn free_disk(&self, bytes: u64) -> bool {
        let freed = self.change(|inventory| inventory.evict_bytes(bytes));
        match freed {
            Ok(freed) => {
                tracing::warn!(freed, "disk is full, unused layers evicted");
                freed > 0
            }
            Err(error) => {
                tracing::error!(%error, "disk is full, and no layer could be evicted");
                false
            }
        }
    }

    /// Layers that left to make room since this was asked last, also for what could not be kept after
    /// all; their swarms are to be left as well.
    pub(crate) fn take_evicted(&self) -> Vec<Arc<StoredLayer>> {
        std::mem::take(&mut self.lock().evicted)
    }

    /// From now on the word of each of these sources counts for the layers of all of them.
    pub fn share_origins(&self, origins: impl IntoIterator<Item = String>) {
        let shared = &self.shared_origins;
        let mut shared = shared.write();
        shared.extend(origins);
    }

    /// Sources that trust each other's word.
    pub fn shared_origins(&self) -> Vec<String> {
        let shared = &self.shared_origins;
        let shared = shared.read();
        shared.iter().cloned().collect()
    }

    /// Whether the word of `origin` counts on who may have what came from `known`. Who knows a digest may not
    /// have the layer for it: a source of the caller's choice would let him in.
    ///
    /// # Errors
    /// They are two sources that do not share theirs.
    pub fn check_origin(&self, known: &str, origin: &str) -> Result<(), StoreError> {
        let shared = &self.shared_origins;
        let shared = shared.read();
        if known == origin || (shared.contains(known) && shared.contains(origin)) {
            return Ok(());
        }
        Err(StoreError::OtherOrigin {
            known: known.to_owned(),
            asked: origin.to_owned(),
        })
    }

    /// Removes a layer or small content, also one in use. Readers that have it open keep their
    /// file until they close it.
    ///
    /// # Errors
    /// The disk refused.
    pub fn remove_used(&self, content: &ContentId) -> Result<(), StoreError> {
        self.remove_small(content);
        self.change(|inventory| inventory.layers.remove(content))
    }

    /// As [`remove_used`](Self::remove_used), but this very layer (void) and not one that has taken its
    /// place.
    ///
    /// # Errors
    /// The disk refused.
    pub fn remove_layer(&self, layer: &Arc<StoredLayer>) -> Result<(), StoreError> {
        let removed = self.remove_later(layer);
        self.delete_removed();
        removed
    }

    /// As [`remove_layer`](Self::remove_layer), for reactor threads: its bytes stay on the disk until
    /// [`delete_removed`](Self::delete_removed).
    pub(crate) fn remove_later(&self, layer: &Arc<StoredLayer>) -> Result<(), StoreError> {
        let layers = &mut self.lock().layers;
        if layers.has(layer) {
            layers.remove(layer.content())
        } else {
            Ok(())
        }
    }

    /// Removes what is no longer wanted, unless it is pinned or in use; returns the layer, which
    /// small content is not.
    ///
    /// # Errors
    /// It is still here, or was not.
    pub fn remove(&self, content: &ContentId) -> Result<Option<Arc<StoredLayer>>, RemoveError> {
        let was_small = self.remove_small(content);
        self.change(|inventory| {
            let Some(layer) = inventory.layers.get(content).cloned() else {
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
            inventory.layers.remove(content)?;
            tracing::info!(%content, "layer removed");
            Ok(Some(layer))
        })
    }

    /// Removes a layer whose bytes were found damaged, also when it is pinned or in use. From
    /// now on no byte of it leaves; its swarm tells its readers.
    ///
    /// # Errors
    /// The disk refused.
    pub fn quarantine(&self, layer: &Arc<StoredLayer>) -> Result<(), StoreError> {
        layer.quarantine();
        self.remove_layer(layer)
    }

    /// Pins a layer, so that it is never evicted, or gives it free. `None`: it is not here; small
    /// content has to be [unpacked](Self::unpack).
    ///
    /// # Errors
    /// The disk refused; a restart may forget it.
    pub fn set_pinned(&self, content: &ContentId, pinned: bool) -> Option<Result<(), StoreError>> {
        let layer = {
            let inventory = self.lock();
            let layer = Arc::clone(inventory.layers.get(content)?);
            layer.set_pinned(pinned);
            layer
        };
        let recorded = layer.record_pin();
        Some(recorded.map_err(|e| StoreError::io(layer.dir(), e)))
    }

    /// Whether this very layer is here, and not one that has taken its place.
    pub fn has(&self, layer: &Arc<StoredLayer>) -> bool {
        self.lock().layers.has(layer)
    }

    /// Bytes that everything takes that is here, layers when complete.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    /// Reactor threads ask what is here: large layers are not deleted with it.
    fn lock(&self) -> parking_lot::MutexGuard<'_, Inventory> {
        self.layers.lock()
    }

    /// Changes what is held; then what has left is deleted, which others need not wait for. Its room
    /// is not used before this returns.
    fn change<T>(&self, change: impl FnOnce(&mut Inventory) -> T) -> T {
        let changed = change(&mut self.lock());
        self.delete_removed();
        changed
    }

    /// Deletes what has left. Blocks on the disk.
    pub(crate) fn delete_removed(&self) {
        // A thread that finds nothing to delete waits for the one that deletes: the room is free when this returns.
        let _deleting = self.deleting.lock();
        let removed_dirs = self.lock().layers.take_removed_dirs();
        for dir in removed_dirs {
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                let path = dir.display();
                tracing::error!(%path, %error, "removed layer not deleted, it takes room until the next start");
            }
        }
    }
}

/// Whether the directory is that of a layer that has left.
fn is_removed(dir: &Path) -> bool {
    let name = dir.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(inventory::REMOVED))
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
    if private_dir::try_lock(&lock).map_err(|e| StoreError::io(&path, e))? {
        return Ok(lock);
    }
    Err(StoreError::InUse {
        path: data_dir.to_owned(),
    })
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
mod tests;
