//! What a host holds, for its operator: listed, removed, verified, pinned.

use std::path::Path;
use std::sync::Arc;

use flotilla_torrents::{Bitfield, ContentId, Digest, Geometry};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::engine::Engine;
use crate::store::{LayerAudit, RemoveError, SmallEntry, Store, StoreError, StoredLayer};

/// What there is of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerReport {
    /// What it is.
    pub content: ContentId,
    /// Where the source has content that no digest names, without what may be secret in it.
    pub url: Option<String>,
    /// Scheme, host and port of its source.
    pub origin: String,
    /// Bytes of the whole.
    pub length: u64,
    /// Bytes held.
    pub held: u64,
    /// SHA-256 of the whole, when it is complete and was compared with its digest.
    pub sealed: Option<Digest>,
    /// When it was last used, Unix milliseconds.
    pub last_used: u64,
    /// Whether it is never evicted.
    pub pinned: bool,
    /// Whether it is downloaded, read or uploaded now.
    pub in_use: bool,
}

impl LayerReport {
    fn of(layer: &StoredLayer) -> Self {
        let geometry = layer.geometry();
        Self {
            content: layer.content().clone(),
            url: layer.url().map(str::to_owned),
            origin: layer.origin().to_owned(),
            length: geometry.length(),
            held: held_bytes(&geometry, &layer.held()),
            sealed: layer.sealed(),
            last_used: layer.last_used(),
            pinned: layer.is_pinned(),
            in_use: layer.is_leased(),
        }
    }

    fn of_small(entry: SmallEntry) -> Self {
        Self {
            content: entry.content,
            url: None,
            origin: entry.origin,
            length: entry.length,
            held: entry.length,
            sealed: Some(entry.sha256),
            last_used: entry.last_used,
            pinned: false,
            in_use: false,
        }
    }
}

/// Everything that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CacheReport {
    /// The layers, the last used one first.
    pub layers: Vec<LayerReport>,
    /// Bytes that they may take; only a running host knows.
    pub quota: Option<u64>,
}

/// What became of a layer that was to be removed, pinned or unpinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It is so.
    Done,
    /// Not removed: it is pinned.
    Pinned,
    /// Not removed: it is in use.
    InUse,
    /// There is no such layer.
    Absent,
    /// The disk refused.
    Failed(String),
}

/// The layers of a host that runs, or those below a data directory that no host uses.
#[derive(Clone, Debug)]
pub struct Cache(CacheAccess);

#[derive(Clone, Debug)]
enum CacheAccess {
    Running(Engine),
    Resting(Arc<Store>),
}

impl Cache {
    /// The layers of a running host.
    pub fn of(engine: &Engine) -> Self {
        Self(CacheAccess::Running(engine.clone()))
    }

    /// The layers below `data_dir`; no host can start there while this lives. Blocks on the disk.
    ///
    /// # Errors
    /// The directory cannot be read, or a host runs there.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let store = Store::open(data_dir, u64::MAX)?;
        Ok(Self(CacheAccess::Resting(Arc::new(store))))
    }

    /// Everything that is held.
    pub fn report(&self) -> CacheReport {
        let layers = self.store().layers();
        let mut layers: Vec<_> = layers.iter().map(|layer| LayerReport::of(layer)).collect();
        let small = self.store().small_entries();
        layers.extend(small.into_iter().map(LayerReport::of_small));
        layers.sort_by(|a, b| {
            let newest_first = b.last_used.cmp(&a.last_used);
            newest_first.then_with(|| a.content.cmp(&b.content))
        });
        let quota = match &self.0 {
            CacheAccess::Running(engine) => Some(engine.store().quota()),
            CacheAccess::Resting(_) => None,
        };
        CacheReport { layers, quota }
    }

    /// Removes a layer that is neither pinned nor in use. Blocks on the disk.
    pub fn remove(&self, content: &ContentId) -> Outcome {
        match self.store().remove(content) {
            Ok(layer) => {
                self.leave(layer.into_iter());
                Outcome::Done
            }
            Err(RemoveError::Absent) => Outcome::Absent,
            Err(RemoveError::Pinned) => Outcome::Pinned,
            Err(RemoveError::InUse) => Outcome::InUse,
            Err(RemoveError::Store(error)) => Outcome::Failed(error.to_string()),
        }
    }

    /// Pins a layer, so that it is never evicted, or gives it free. Blocks on the disk.
    pub fn set_pinned(&self, content: &ContentId, pinned: bool) -> Outcome {
        if self.store().has_small(content) {
            if !pinned && self.store().layer(content).is_none() {
                return Outcome::Done;
            }
            match self.store().unpack(content) {
                Ok(None) => return Outcome::Absent,
                Ok(Some(_)) => self.leave(self.store().take_evicted().into_iter()),
                Err(error) => return Outcome::Failed(error.to_string()),
            }
        }
        match self.store().set_pinned(content, pinned) {
            None => Outcome::Absent,
            Some(Ok(())) => Outcome::Done,
            Some(Err(error)) => Outcome::Failed(error.to_string()),
        }
    }

    /// Compares a layer with its recorded hashes; one that is damaged is removed, also if a reader uses
    /// it. `None`: it is not here, or `stop` came first.
    ///
    /// # Errors
    /// The disk refused to remove a damaged layer; no byte of it leaves the node all the same.
    pub async fn verify(
        &self,
        content: &ContentId,
        stop: &CancellationToken,
    ) -> Result<Option<LayerAudit>, StoreError> {
        let Some(layer) = self.store().layer(content) else {
            let (cache, content) = (self.clone(), content.clone());
            return Ok(blocking(move || cache.store().audit_small(&content)).await);
        };
        let (audited, stop) = (Arc::clone(&layer), stop.clone());
        let audit = blocking(move || {
            // Not evicted meanwhile: an eviction is no damage.
            let _lease = audited.lease_silently();
            audited.audit(&|| stop.is_cancelled())
        });
        let audit = audit.await;
        if audit.as_ref().is_some_and(|audit| !audit.is_intact()) {
            match &self.0 {
                CacheAccess::Running(engine) => {
                    engine.quarantine(&layer, "damaged on the disk").await?;
                }
                CacheAccess::Resting(store) => {
                    let store = Arc::clone(store);
                    blocking(move || store.quarantine(&layer)).await?;
                }
            }
        }
        Ok(audit)
    }

    /// Layers that are no longer here are no longer seeded.
    fn leave(&self, layers: impl Iterator<Item = Arc<StoredLayer>>) {
        if let CacheAccess::Running(engine) = &self.0 {
            layers.for_each(|layer| engine.leave(&layer.swarm()));
        }
    }

    fn store(&self) -> &Store {
        match &self.0 {
            CacheAccess::Running(engine) => engine.store(),
            CacheAccess::Resting(store) => store,
        }
    }
}

fn held_bytes(geometry: &Geometry, held: &Bitfield) -> u64 {
    if held.is_full() {
        return geometry.length();
    }
    let sizes = held.iter_set().map(|piece| geometry.piece_size(piece));
    sizes.map(u64::from).sum()
}
