//! Small content of an engine: kept whole, without a swarm.

use std::sync::Arc;

use flotilla_torrents::ContentId;

use crate::blocking::blocking;
use crate::engine::Engine;
use crate::store::small_content::SmallContent;
use crate::store::{StoreError, StoredLayer};

impl Engine {
    /// Keeps small content on the disk. Returns at once; without room there it is not kept.
    pub fn keep(&self, small: SmallContent, origin: &str) {
        if self.0.small_queue.push(small, origin.to_owned()) {
            let engine = self.clone();
            self.0.tasks.spawn_blocking(move || {
                while let Some((small, origin)) = engine.0.small_queue.next() {
                    if let Err(error) = engine.keep_now(&small, &origin) {
                        tracing::warn!(content = %small.content(), %error, "small content not kept");
                    }
                }
            });
        }
    }

    /// As [`keep`](Self::keep), at once. Blocks on the disk.
    pub(crate) fn keep_now(&self, small: &SmallContent, origin: &str) -> Result<(), StoreError> {
        let kept = self.0.host.store.keep(small, origin);
        self.leave_evicted();
        kept
    }

    /// Small content that was kept, for a caller of `origin`; `None`: it is not here.
    ///
    /// # Errors
    /// It came from another source.
    pub async fn small(
        &self,
        content: &ContentId,
        origin: &str,
    ) -> Result<Option<SmallContent>, StoreError> {
        if !self.0.host.store.has_small(content) {
            return Ok(None);
        }
        let (engine, content, origin) = (self.clone(), content.clone(), origin.to_owned());
        blocking(move || engine.0.host.store.small(&content, &origin)).await
    }

    /// Makes a layer of small content that was kept; `None`: it is not here. Blocks on the disk.
    ///
    /// # Errors
    /// There is no room for it, or the disk refused.
    pub fn unpack(&self, content: &ContentId) -> Result<Option<Arc<StoredLayer>>, StoreError> {
        let unpacked = self.0.host.store.unpack(content);
        self.leave_evicted();
        unpacked
    }

    /// Makes a layer of small content, kept or not. Blocks on the disk.
    pub(crate) fn write_small(
        &self,
        small: &SmallContent,
        origin: &str,
    ) -> Result<Arc<StoredLayer>, StoreError> {
        if let Some(layer) = self.unpack(small.content())? {
            return Ok(layer);
        }
        let store = &self.0.host.store;
        let layer = store.layer_or_create(small.content(), small.geometry(), origin);
        self.leave_evicted();
        let layer = layer?;
        store.complete(&layer, small.bytes(), small.sha256().clone())?;
        Ok(layer)
    }
}
