//! What a swarm gives to its peers: blocks that they request, pieces that an origin offers.

use std::time::{Duration, Instant};

use flotilla_torrents::PieceIndex;
use flotilla_torrents::peer_wire::Message;

use super::Swarm;
use super::output::Transmit;
use super::peer::{Peer, PeerKey};

/// A piece is shown to a peer that has it after this at the latest.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

impl Swarm {
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        key: PeerKey,
        index: u32,
        begin: u32,
        length: u32,
    ) {
        let Some(block) = self.geometry.block(index, begin, length) else {
            return self.misbehaved(key, "request outside the geometry");
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if length > self.config.block_length {
            return self.misbehaved(key, "request larger than announced");
        }
        if peer.uploads.len() >= self.config.request_queue {
            return self.misbehaved(key, "more requests than announced");
        }
        if !peer.traits.authorized || !self.picker.held().has(block.piece) {
            // Without the fast extension there is no such message (BEP 6).
            if !peer.traits.fast {
                return;
            }
            return self.send(key, Message::reject(block));
        }
        if !peer.uploads.contains(&block) {
            peer.uploads.push_back(block);
            self.uploads.enqueue(key);
        }
        if let Some(seeder) = &mut self.super_seeder {
            seeder.asked(now, peer, block.piece);
        }
    }

    /// Shows a new piece to the peers that lack it and to its senders at once, to the others together with
    /// the next ones: a packet for each piece and peer would take percents of a slow link.
    pub(super) fn announce(&mut self, now: Instant, piece: PieceIndex, senders: &[PeerKey]) {
        let is_origin = self.super_seeder.is_some();
        let mut shown = Vec::new();
        for (key, peer) in &mut self.peers {
            if !peer.traits.authorized || (is_origin && !peer.traits.stranger) {
                continue;
            }
            if peer.has.has(piece) && !peer.traits.stranger && !senders.contains(key) {
                peer.unannounced.push(piece);
            } else {
                shown.push(*key);
            }
        }
        for key in shown {
            self.send(key, Message::Have(piece.get()));
        }
        if self.picker.is_complete() {
            self.announce_deferred(now);
        }
    }

    /// Shows the pieces that were held back.
    pub(super) fn announce_deferred(&mut self, now: Instant) {
        let is_complete = self.picker.is_complete();
        let due = |peer: &Peer| {
            is_complete || now.saturating_duration_since(peer.announced) >= ANNOUNCE_INTERVAL
        };
        let mut late = Vec::new();
        let peers = self.peers.iter_mut();
        for (key, peer) in peers.filter(|(_, peer)| !peer.unannounced.is_empty() && due(peer)) {
            peer.announced = now;
            late.extend(peer.unannounced.drain(..).map(|piece| (*key, piece)));
        }
        for (key, piece) in late {
            self.send(key, Message::Have(piece.get()));
        }
    }

    pub(super) fn offer(&mut self, now: Instant) {
        let Some(seeder) = &mut self.super_seeder else {
            return;
        };
        while let Some((key, piece)) =
            seeder.next_offer(now, &self.uploads, &mut self.peers, &self.picker)
        {
            self.transmits
                .push_back(Transmit::Message(key, Message::Have(piece.get())));
        }
    }
}
