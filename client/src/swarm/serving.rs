//! What a swarm gives to its peers: blocks that they request, pieces that an origin offers.

use std::time::Instant;

use flotilla_torrents::peer_wire::Message;

use super::Swarm;
use super::output::Transmit;
use super::peer::PeerKey;

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
            return self.send(
                key,
                Message::Reject {
                    index,
                    begin,
                    length,
                },
            );
        }
        if !peer.uploads.contains(&block) {
            peer.uploads.push_back(block);
            self.uploads.enqueue(key);
        }
        self.uploads.progressed(now, key);
    }

    pub(super) fn offer(&mut self, now: Instant) {
        let Some(seeder) = &mut self.super_seeder else {
            return;
        };
        while let Some((key, piece)) = seeder.next_offer(
            now,
            self.uploads.is_idle(&self.peers),
            &mut self.peers,
            &self.picker,
        ) {
            self.transmits
                .push_back(Transmit::Message(key, Message::Have(piece.get())));
        }
    }
}
