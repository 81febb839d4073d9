//! Which peer to serve next.
//!
//! No peer is choked for barter; what protects the uploader is that few pieces leave at the
//! same moment, each one whole, and that the peers take turns piece by piece. Serving many
//! pieces at once would make the first complete copy later by as many times.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use flotilla_torrents::{Block, PieceIndex};

use super::peer::{Peer, PeerKey};

#[derive(Debug)]
struct Slot {
    peer: PeerKey,
    piece: PieceIndex,
    progress: Instant,
}

/// The turns of the peers that wait for blocks.
#[derive(Debug)]
pub(super) struct UploadQueue {
    slots: usize,
    blocks_in_socket: usize,
    active: Vec<Slot>,
    waiting: VecDeque<PeerKey>,
}

/// A slot whose socket took nothing for this long is held up by its receiver: another peer
/// may start beside it.
const HELD_UP: Duration = Duration::from_millis(200);

impl UploadQueue {
    pub(super) fn new(slots: usize, blocks_in_socket: usize) -> Self {
        Self {
            slots,
            blocks_in_socket,
            active: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// `peer` has requests waiting.
    pub(super) fn enqueue(&mut self, peer: PeerKey) {
        if !self.waiting.contains(&peer) && !self.active.iter().any(|slot| slot.peer == peer) {
            self.waiting.push_back(peer);
        }
    }

    pub(super) fn remove(&mut self, peer: PeerKey) {
        self.waiting.retain(|waiting| *waiting != peer);
        self.active.retain(|slot| slot.peer != peer);
    }

    /// No peer of ours waits for a turn: the uplink has room. Strangers do not count: as long as
    /// one of them loads, the nodes would be shown nothing.
    pub(super) fn is_idle(&self, peers: &BTreeMap<PeerKey, Peer>) -> bool {
        let own = |key: &PeerKey| peers.get(key).is_none_or(|peer| !peer.traits.stranger);
        let active = self.active.iter().filter(|slot| own(&slot.peer));
        !self.waiting.iter().any(own) && active.count() < self.slots
    }

    /// Whether any upload is under way.
    pub(super) fn is_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// Whether any peer is served, or waits for it.
    pub(super) fn is_busy(&self) -> bool {
        !self.active.is_empty() || !self.waiting.is_empty()
    }

    /// A block was written to the socket of `peer`.
    pub(super) fn progressed(&mut self, now: Instant, peer: PeerKey) {
        for slot in self.active.iter_mut().filter(|slot| slot.peer == peer) {
            slot.progress = now;
        }
    }

    /// The next block to hand to a connection.
    pub(super) fn next(
        &mut self,
        now: Instant,
        peers: &mut BTreeMap<PeerKey, Peer>,
    ) -> Option<(PeerKey, Block)> {
        loop {
            self.release(peers);
            let limit = self.blocks_in_socket;
            let granted = self.active.iter().find_map(|slot| {
                let peer = peers.get_mut(&slot.peer)?;
                if peer.in_socket >= limit {
                    return None;
                }
                let at = peer
                    .uploads
                    .iter()
                    .position(|block| block.piece == slot.piece)?;
                let block = peer.uploads.remove(at)?;
                peer.in_socket += 1;
                Some((slot.peer, block))
            });
            if granted.is_some() {
                return granted;
            }
            self.start_turn(now, peers)?;
        }
    }

    /// Gives a free slot to the peer of ours that waits longest, or else to the stranger.
    fn start_turn(&mut self, now: Instant, peers: &BTreeMap<PeerKey, Peer>) -> Option<()> {
        let moving = self
            .active
            .iter()
            .filter(|slot| now.saturating_duration_since(slot.progress) < HELD_UP)
            .count();
        if moving >= self.slots {
            return None;
        }
        loop {
            let own = |key: &PeerKey| peers.get(key).is_some_and(|peer| !peer.traits.stranger);
            let next = self.waiting.iter().position(own).unwrap_or(0);
            let peer = self.waiting.remove(next)?;
            if let Some(block) = peers.get(&peer).and_then(|peer| peer.uploads.front()) {
                self.active.push(Slot {
                    peer,
                    piece: block.piece,
                    progress: now,
                });
                return Some(());
            }
        }
    }

    /// Ends the turns whose piece has left whole.
    fn release(&mut self, peers: &BTreeMap<PeerKey, Peer>) {
        let mut again = Vec::new();
        self.active.retain(|slot| {
            let Some(peer) = peers.get(&slot.peer) else {
                return false;
            };
            let busy =
                peer.in_socket > 0 || peer.uploads.iter().any(|block| block.piece == slot.piece);
            if !busy && !peer.uploads.is_empty() {
                again.push(slot.peer);
            }
            busy
        });
        self.waiting.extend(again);
    }
}
