//! The digest of a layer, computed while its pieces arrive.

use std::io;
use std::sync::Arc;

use flotilla_torrents::{Digest, DigestAlgorithm, DigestHasher, InfoHash};
use parking_lot::Mutex;

use crate::engine::hot_pieces::HotPieces;
use crate::store::StoredLayer;

/// Bytes read at a time of pieces that are not in memory any more.
const READ_BACK: usize = 1024 * 1024;

/// Hashes the pieces of one layer in order, each as soon as it and all before it are held: of a
/// layer that is complete little is left to read. Methods block.
#[derive(Debug)]
pub(crate) struct WholeHash {
    layer: Arc<StoredLayer>,
    swarm: InfoHash,
    hot: Arc<HotPieces>,
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
struct State {
    hasher: DigestHasher,
    /// Index of the first piece that is not in the hash.
    next: u32,
}

impl WholeHash {
    pub(crate) fn new(layer: Arc<StoredLayer>, swarm: InfoHash, hot: Arc<HotPieces>) -> Self {
        let digest = layer.content().digest();
        let algorithm = digest.map_or(DigestAlgorithm::Sha256, |digest| digest.algorithm());
        Self {
            layer,
            swarm,
            hot,
            state: Mutex::new(State {
                hasher: DigestHasher::new(algorithm),
                next: 0,
            }),
        }
    }

    /// Adds the pieces that are held now, up to the first gap. A thread that is at it already goes
    /// on alone.
    pub(crate) fn advance(&self) {
        let Some(mut state) = self.state.try_lock() else {
            return;
        };
        // What cannot be read now is tried again at the end, where the failure counts.
        if let Err(error) = self.add_held(&mut state) {
            tracing::debug!(%error, "piece not read back");
        }
    }

    /// The digest of the whole, whose pieces are all held: of the content's own algorithm, or SHA-256.
    pub(crate) fn finish(&self) -> io::Result<Digest> {
        let mut state = self.state.lock();
        self.add_held(&mut state)?;
        if state.next < self.layer.geometry().piece_count() {
            return Err(io::Error::other(format!("piece {} is missing", state.next)));
        }
        Ok(state.hasher.clone().finish())
    }

    fn add_held(&self, state: &mut State) -> io::Result<()> {
        let geometry = self.layer.geometry();
        while let Some(piece) = geometry.piece(state.next).filter(|p| self.layer.has(*p)) {
            if let Some(data) = self.hot.get(self.swarm, piece) {
                for part in data.parts() {
                    state.hasher.update(part);
                }
            } else {
                // A failure in the middle leaves the hash as it was.
                let mut hasher = state.hasher.clone();
                let range = geometry.piece_range(piece);
                let mut offset = range.start;
                while offset < range.end {
                    let rest = usize::try_from(range.end - offset).unwrap_or(READ_BACK);
                    let part = self.layer.read(offset, rest.min(READ_BACK))?;
                    hasher.update(&part);
                    offset = offset.saturating_add(part.len() as u64);
                }
                state.hasher = hasher;
            }
            state.next = state.next.saturating_add(1);
        }
        Ok(())
    }
}
