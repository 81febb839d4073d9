//! What a swarm requests of its peers.

use std::time::Instant;

use flotilla_torrents::Block;
use flotilla_torrents::peer_wire::Message;

use super::Swarm;
use super::peer::{Outstanding, Peer, PeerKey};

impl Swarm {
    pub(super) fn request_from_all(&mut self, now: Instant) {
        if self.picker.is_complete() {
            return;
        }
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            self.request_from(now, key);
        }
    }

    /// Fills the pipeline of one peer.
    pub(super) fn request_from(&mut self, now: Instant, key: PeerKey) {
        if self.picker.is_complete() {
            return;
        }
        loop {
            let Some(peer) = self.peers.get(&key) else {
                return;
            };
            if peer.choking_us || peer.outstanding_bytes >= self.pipeline(peer) {
                return;
            }
            let length = self.config.block_length.min(peer.traits.block_length);
            let may_start = self.picker.fetching_bytes() < self.config.in_flight_cap;
            let picked = self
                .picker
                .pick(key, &peer.has, length, may_start, &mut self.rng);
            let Some(block) = picked.or_else(|| self.late_block(now, key)) else {
                return;
            };
            let Some(peer) = self.peers.get_mut(&key) else {
                return;
            };
            peer.outstanding.push(Outstanding { block, since: now });
            peer.outstanding_bytes += u64::from(block.length);
            let Block {
                piece,
                offset,
                length,
            } = block;
            self.send(
                key,
                Message::Request {
                    index: piece.get(),
                    begin: offset,
                    length,
                },
            );
        }
    }

    /// Bytes that may be outstanding at `peer`: what it delivers in the pipeline time, and
    /// at least one piece and the beginning of the next.
    fn pipeline(&self, peer: &Peer) -> u64 {
        let block = u64::from(self.config.block_length.min(peer.traits.block_length));
        let least = u64::from(self.geometry.piece_length()).min(512 * 1024) + block;
        let most = u64::from(peer.traits.request_queue).saturating_mul(block);
        peer.received
            .bytes_in(self.config.pipeline_time)
            .max(least)
            .min(most.max(block))
    }

    /// A block that another peer is late with and that `key` has: the end game, and the
    /// rescue from a peer that slowed down.
    fn late_block(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        let late_after = self.latency.late_after();
        let asker = self.peers.get(&key)?;
        let late = self
            .peers
            .iter()
            .filter(|(other, _)| **other != key)
            .flat_map(|(_, peer)| &peer.outstanding)
            .filter(|o| {
                now.saturating_duration_since(o.since) > late_after
                    && asker.has.has(o.block.piece)
                    && o.block.length <= asker.traits.block_length
                    && !asker.outstanding.iter().any(|mine| mine.block == o.block)
            })
            .min_by_key(|o| o.since)?
            .block;
        self.picker.duplicate(late).then_some(late)
    }

    pub(super) fn cancel_duplicates(&mut self, now: Instant, winner: PeerKey, block: Block) {
        let mut cancelled = Vec::new();
        for (key, peer) in &mut self.peers {
            if *key != winner && peer.settle(now, block).is_some() {
                cancelled.push(*key);
            }
        }
        for key in cancelled {
            let Block {
                piece,
                offset,
                length,
            } = block;
            self.send(
                key,
                Message::Cancel {
                    index: piece.get(),
                    begin: offset,
                    length,
                },
            );
        }
    }
}
