//! The pieces of one swarm on their way from the connections to the disk.

use std::sync::Arc;

use flotilla_torrents::PieceIndex;

use super::SwarmTask;
use crate::engine::input::{Input, PieceCheck};

impl SwarmTask {
    /// Compares a piece with its hash and stores it, away from the reactor.
    pub(super) fn check(&mut self, piece: PieceIndex) {
        let Some(buffer) = self.buffers.remove(&piece) else {
            return;
        };
        let (data, arrival) = buffer.into_data();
        let shared = &self.handle.0;
        let expected = shared.lock_map().hash(piece);
        let (storage, input) = (self.storage.clone(), shared.input.clone());
        let (swarm, hot) = (shared.swarm, Arc::clone(&shared.hot));
        let whole = self.whole_hash.clone();
        self.tasks.spawn_blocking(move || {
            let hash = data.hash();
            let check = if expected == Some(hash) {
                // Before it is held: from then on it is asked for.
                hot.insert(swarm, piece, data.clone());
                match storage.write_piece(piece, hash, &data) {
                    Ok(()) => PieceCheck::Stored,
                    Err(error) => PieceCheck::Disk(error),
                }
            } else {
                PieceCheck::Corrupt
            };
            let is_stored = matches!(check, PieceCheck::Stored);
            arrival.checked(is_stored);
            // Peers and readers first; the whole has time until its last piece.
            let _ = input.blocking_send(Input::PieceChecked(piece, check));
            if let Some(whole) = whole.filter(|_| is_stored) {
                whole.advance();
            }
        });
    }
}
