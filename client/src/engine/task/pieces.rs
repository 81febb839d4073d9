//! Pieces of one swarm: compared, stored, lost; and the whole, once all are here.

use std::sync::Arc;
use std::time::Instant;

use flotilla_torrents::{Digest, PieceIndex};

use super::SwarmTask;
use crate::engine::disk_room::write_with_room;
use crate::engine::input::{Input, PieceCheck, Unverified};
use crate::engine::piece_storage::PieceStorage;
use crate::store::whole_digest;
use crate::swarm::Role;

impl SwarmTask {
    pub(super) fn piece_checked(&mut self, now: Instant, piece: PieceIndex, check: PieceCheck) {
        let size = u64::from(self.handle.geometry().piece_size(piece));
        match check {
            PieceCheck::Stored => {
                let counters = self.handle.counters();
                counters.count(|counters| &counters.downloaded, size);
                self.handle.progressed();
                self.swarm.handle_piece_stored(now, piece);
                let held = self.swarm.held().count();
                self.update(|status| status.held = held);
                self.finish_when_whole();
            }
            PieceCheck::Corrupt => {
                tracing::debug!(%piece, "piece corrupt");
                let counters = self.handle.counters();
                counters.count(|counters| &counters.wasted, size);
                self.swarm.handle_piece_corrupt(now, piece);
            }
            PieceCheck::Disk(error) => {
                tracing::error!(%error, "piece not stored");
                self.abort(format!("the pieces cannot be stored: {error}"));
            }
        }
    }

    /// A piece of the disk was damaged: the peers are asked for it again.
    pub(super) fn piece_lost(&mut self, now: Instant, piece: PieceIndex, is_repairable: bool) {
        if !is_repairable {
            return self.abort(format!("piece {piece} on the disk is damaged"));
        }
        if self.storage.has(piece) {
            // It has come again since.
            return;
        }
        if !self.peers.is_empty() {
            // They get the time that a piece has.
            self.handle.progressed();
        }
        self.swarm.handle_piece_lost(now, piece);
        // No message takes back that a piece is here, and a supernode offers what a node does not have.
        // Those that had nothing to exchange with a complete layer have now.
        let dialled = self.peers.iter().filter(|(_, peer)| peer.dialled);
        let dialled: Vec<_> = dialled.map(|(key, _)| *key).collect();
        for key in dialled {
            self.disconnect(now, key);
        }
        self.redials.clear();
        let held = self.swarm.held().count();
        self.update(|status| {
            status.held = held;
            status.complete = false;
        });
    }

    /// Once all wanted pieces are here and the supernode has sealed the map, the whole is compared
    /// with its digest on this host too. A torrent's pieces are all there is to compare.
    pub(super) fn finish_when_whole(&mut self) {
        let whole = self.swarm.is_complete() && !self.verifying;
        if !whole || self.handle.status().complete {
            return;
        }
        let layer = match &self.storage {
            PieceStorage::Layer(layer) => Arc::clone(layer),
            files @ PieceStorage::Files(_) => {
                let files = files.clone();
                return self.verify(move || Ok(files.sync().map(|()| None)?));
            }
        };
        let Some(sealed) = self.sealed.clone() else {
            return;
        };
        if self.role == Role::Origin {
            if layer.sealed().is_none() {
                self.host.store.seal(&layer, sealed);
            }
            return self.update(|status| status.complete = true);
        }
        let whole_hash = self.whole_hash.clone();
        self.verify(move || {
            let expected = layer.content().digest().unwrap_or_else(|| sealed.clone());
            let found = match whole_hash {
                Some(whole_hash) => whole_hash.finish()?,
                // It was complete before, and has lost a piece since.
                None => whole_digest(&layer, &expected)?,
            };
            if found != expected {
                let wrong = format!("the bytes are {found}, not {expected}");
                return Err(Unverified::Wrong(wrong));
            }
            Ok(Some(sealed))
        });
    }

    /// Runs the last check away from the reactor.
    fn verify(
        &mut self,
        check: impl FnOnce() -> Result<Option<Digest>, Unverified> + Send + 'static,
    ) {
        self.verifying = true;
        let input = self.handle.0.input.clone();
        self.tasks.spawn(async move {
            let outcome = tokio::task::spawn_blocking(check).await;
            let outcome = outcome.unwrap_or_else(|e| Err(Unverified::Wrong(e.to_string())));
            let _ = input.send(Input::Verified(outcome)).await;
        });
    }

    pub(super) fn verified(&mut self, outcome: Result<Option<Digest>, Unverified>) {
        self.verifying = false;
        match outcome {
            Ok(sha256) => {
                if let (PieceStorage::Layer(layer), Some(sha256)) = (&self.storage, sha256) {
                    self.host.store.seal(layer, sha256);
                }
                self.update(|status| status.complete = true);
                tracing::info!(content = %self.name(), "swarm complete");
            }
            Err(Unverified::Damaged(piece, is_repairable)) => {
                self.piece_lost(Instant::now(), piece, is_repairable);
            }
            Err(Unverified::Wrong(reason)) => self.abort(reason),
        }
    }

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
        let (whole, host) = (self.whole_hash.clone(), Arc::clone(&self.host));
        self.tasks.spawn_blocking(move || {
            let hash = data.hash();
            let check = if expected == Some(hash) {
                // Before it is held: from then on it is asked for.
                hot.insert(swarm, piece, data.clone());
                let write = || storage.write_piece(piece, hash, &data);
                match write_with_room(host.as_ref(), data.len(), write) {
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
