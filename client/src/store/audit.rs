//! A layer compared with the hashes that were recorded when its pieces arrived.

use flotilla_torrents::{ContentId, DigestHasher, PieceHash, PieceRanges};
use serde::{Deserialize, Serialize};

use super::StoredLayer;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerAudit {
    /// The layer.
    pub content: ContentId,
    /// Bytes that were read and compared.
    pub checked: u64,
    /// Pieces that are not what they were, by number.
    pub damaged: PieceRanges,
    /// What is wrong with the whole.
    pub fault: Option<String>,
}

impl LayerAudit {
    /// Whether everything that the layer holds is what it should be.
    pub fn is_intact(&self) -> bool {
        self.damaged.is_empty() && self.fault.is_none()
    }
}

impl StoredLayer {
    /// Reads every piece that is held, and compares it with its recorded hash; a complete layer
    /// also as a whole with its digest. `None`: `stop` said so. Takes as long as the disk and a
    /// core need for the layer.
    pub fn audit(&self, stop: &dyn Fn() -> bool) -> Option<LayerAudit> {
        let geometry = self.geometry();
        let mut audit = LayerAudit {
            content: self.content().clone(),
            checked: 0,
            damaged: PieceRanges::default(),
            fault: None,
        };
        let mtime = self.mtime();
        let sealed = self.sealed();
        let is_sealed = sealed.is_some();
        let expected = sealed.map(|sha256| self.content().digest().unwrap_or(sha256));
        let mut whole = expected
            .as_ref()
            .map(|like| DigestHasher::new(like.algorithm()));
        let held = self.held();
        for piece in held.iter_set() {
            if stop() {
                return None;
            }
            let size = geometry.piece_size(piece);
            let length = usize::try_from(size).unwrap_or(usize::MAX);
            match self.read_unchecked(geometry.piece_offset(piece), length) {
                Ok(bytes) => {
                    if self.hash(piece) != Some(PieceHash::of(&bytes)) {
                        audit.damaged.push(piece);
                    }
                    if let Some(whole) = &mut whole {
                        whole.update(&bytes);
                    }
                    audit.checked += u64::from(size);
                }
                Err(error) => {
                    audit.damaged.push(piece);
                    audit
                        .fault
                        .get_or_insert_with(|| format!("piece {piece}: {error}"));
                }
            }
        }
        if let (Some(expected), Some(whole), None) = (expected, whole, &audit.fault) {
            let found = whole.finish();
            if found != expected {
                audit.fault = Some(format!("the bytes are {found}, not {expected}"));
            }
        }
        if let Ok(mtime) = mtime
            && is_sealed
            && audit.is_intact()
        {
            // Touched, but not changed; or copied from elsewhere.
            self.set_sealed_mtime(mtime);
        }
        Some(audit)
    }
}
