//! What takes room in the store, and what is evicted when the room is full.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use flotilla_torrents::ContentId;

use super::checked_pieces::CheckedPieces;
use super::packs::Packs;
use super::{StoreError, StoredLayer};

/// How the directories of layers that have left are called, beside the others: renaming them does not
/// leave the file system.
pub(super) const REMOVED: &str = ".removed-";

/// What takes room.
#[derive(Debug)]
pub(super) struct Inventory {
    pub(super) layers: Layers,
    pub(super) packs: Packs,
    /// Bytes set aside for what may become layers.
    pub(super) spooled: u64,
    /// Layers that have left, and were not reported yet.
    pub(super) evicted: Vec<Arc<StoredLayer>>,
}

impl Inventory {
    /// Bytes that everything takes that is here: layers when they are complete.
    pub(super) fn bytes(&self) -> u64 {
        self.layers.bytes().saturating_add(self.packs.bytes())
    }

    /// Evicts what was not used for the longest time, until `wanted` bytes more have room: packs,
    /// and layers that are neither used nor pinned. The layers are then among the `evicted`,
    /// also after an error.
    pub(super) fn make_room(&mut self, quota: u64, wanted: u64) -> Result<(), StoreError> {
        let needed = wanted.saturating_add(self.spooled);
        // Looking at all layers takes long when they are many.
        if self.bytes().saturating_add(needed) <= quota {
            return Ok(());
        }
        // What cannot have room anyway costs no other layer its place.
        let stays = |layer: &StoredLayer| layer.is_leased() || layer.is_pinned();
        let staying = self.layers.values().filter(|layer| stays(layer));
        let lasting: u64 = staying.map(|layer| layer.geometry().length()).sum();
        if lasting.saturating_add(needed) > quota {
            return Err(StoreError::Full { quota, wanted });
        }
        while self.bytes().saturating_add(needed) > quota {
            if !self.evict_oldest()? {
                return Err(StoreError::Full { quota, wanted });
            }
        }
        Ok(())
    }

    /// As [`make_room`](Self::make_room), for a disk that is full although the quota is not: evicts until
    /// `wanted` bytes have left, or nothing more can. Returns the bytes that have left.
    pub(super) fn evict_bytes(&mut self, wanted: u64) -> Result<u64, StoreError> {
        let before = self.bytes();
        while before.saturating_sub(self.bytes()) < wanted && self.evict_oldest()? {}
        Ok(before.saturating_sub(self.bytes()))
    }

    /// Evicts what was not used for the longest time. False: nothing can leave.
    fn evict_oldest(&mut self) -> Result<bool, StoreError> {
        let idle = self
            .layers
            .values()
            .filter(|layer| !layer.is_leased() && !layer.is_pinned());
        let oldest = idle.min_by_key(|layer| layer.last_used()).cloned();
        match (oldest, self.packs.oldest()) {
            (Some(layer), Some((used, pack))) if used < layer.last_used() => {
                self.packs.evict(pack)?;
            }
            (Some(layer), _) => {
                tracing::info!(content = %layer.content(), "layer evicted");
                self.layers.remove(layer.content())?;
                self.evicted.push(layer);
            }
            (None, Some((_, pack))) => self.packs.evict(pack)?,
            (None, None) => return Ok(false),
        }
        Ok(true)
    }
}

/// The layers by what they are.
#[derive(Debug)]
pub(super) struct Layers {
    by_content: HashMap<ContentId, Arc<StoredLayer>>,
    bytes: u64,
    root: PathBuf,
    checked_pieces: Arc<CheckedPieces>,
    /// Directories of layers that have left. Freeing gigabytes takes time: the holder of the lock gives it
    /// back first.
    removed_dirs: Vec<PathBuf>,
    removals: u64,
}

impl Layers {
    /// Those below `root`.
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            by_content: HashMap::new(),
            bytes: 0,
            root,
            checked_pieces: Arc::default(),
            removed_dirs: Vec::new(),
            removals: 0,
        }
    }

    /// What is to be deleted now.
    pub(super) fn take_removed_dirs(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.removed_dirs)
    }

    pub(super) fn get(&self, content: &ContentId) -> Option<&Arc<StoredLayer>> {
        self.by_content.get(content)
    }

    /// Whether this very layer is here, and not one that has taken its place.
    pub(super) fn has(&self, layer: &Arc<StoredLayer>) -> bool {
        let known = self.get(layer.content());
        known.is_some_and(|known| Arc::ptr_eq(known, layer))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<StoredLayer>> {
        self.by_content.values()
    }

    /// Bytes that they take when complete.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn insert(&mut self, layer: Arc<StoredLayer>) {
        layer.share_checked(&self.checked_pieces);
        self.bytes += layer.geometry().length();
        if let Some(replaced) = self.by_content.insert(layer.content().clone(), layer) {
            self.bytes -= replaced.geometry().length();
        }
    }

    /// Removes the layer here, and on the disk from where layers are: whole, whenever the process
    /// ends. Its directory is [deleted later](Self::take_removed_dirs).
    pub(super) fn remove(&mut self, content: &ContentId) -> Result<(), StoreError> {
        let Some(layer) = self.by_content.get(content) else {
            return Ok(());
        };
        self.removals += 1;
        let away = self.root.join(format!("{REMOVED}{}", self.removals));
        match std::fs::rename(layer.dir(), &away) {
            Ok(()) => self.removed_dirs.push(away),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io(layer.dir(), error)),
        }
        layer.mark_removed();
        self.bytes -= layer.geometry().length();
        self.by_content.remove(content);
        Ok(())
    }
}
