//! What a swarm requests of its peers.

use std::time::{Duration, Instant};

use flotilla_torrents::Block;
use flotilla_torrents::peer_wire::Message;

use super::Swarm;
use super::config::SwarmConfig;
use super::peer::{Outstanding, Peer, PeerKey};

/// A peer that owes blocks and sends none for this long is taken for silent.
const SILENCE: Duration = Duration::from_millis(500);

impl Swarm {
    pub(super) fn request_from_all(&mut self, now: Instant) {
        if self.picker.is_complete() {
            return;
        }
        let openings = self.picker.openings();
        let free = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.exhausted != Some(openings));
        let keys: Vec<PeerKey> = free.map(|(key, _)| *key).collect();
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
            let backlog = self
                .received
                .bytes_in(self.config.backlog_time)
                .max(self.config.min_backlog);
            let Some(peer) = self.peers.get_mut(&key) else {
                return;
            };
            let openings = self.picker.openings();
            if peer.exhausted == Some(openings)
                || peer.choking_us
                || (self.outstanding_bytes >= backlog && peer.outstanding_bytes > 0)
                || peer.outstanding_bytes >= pipeline(&self.config, peer)
            {
                return;
            }
            let length = self.config.block_length.min(peer.traits.block_length);
            let may_start = self.picker.fetching_bytes() < self.config.in_flight_cap;
            let picked = self
                .picker
                .pick(key, &peer.has, length, may_start, &mut self.rng);
            let Some(block) = picked else {
                peer.exhausted = may_start.then_some(openings);
                return;
            };
            self.request(now, key, block);
        }
    }

    fn request(&mut self, now: Instant, key: PeerKey, block: Block) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.outstanding.is_empty() {
            peer.last_block = now;
        }
        peer.outstanding.push(Outstanding { block, since: now });
        peer.outstanding_bytes += u64::from(block.length);
        self.outstanding_bytes += u64::from(block.length);
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

    /// Asks peers that have nothing else to give for blocks that others are late with: the end game, and
    /// the rescue from peers that slowed down or fell silent.
    pub(super) fn rescue_late_blocks(&mut self, now: Instant) {
        let late_after = self.latency.late_after();
        let at_end = self.picker.is_all_asked_for();
        let mut late: Vec<(Block, u8)> = Vec::new();
        for peer in self.peers.values() {
            let silent = now.saturating_duration_since(peer.last_block) > late_after.max(SILENCE);
            for outstanding in &peer.outstanding {
                let is_late = now.saturating_duration_since(outstanding.since) > late_after;
                match late
                    .iter_mut()
                    .find(|(block, _)| *block == outstanding.block)
                {
                    Some((_, askings)) => *askings = askings.saturating_add(1),
                    None if is_late && (at_end || silent) => late.push((outstanding.block, 1)),
                    None => {}
                }
            }
        }
        for (block, askings) in late {
            let Some(key) = self.rescuer(now, block, late_after) else {
                continue;
            };
            if self.picker.duplicate(block, askings) {
                self.request(now, key, block);
            }
        }
    }

    /// The peer with the least to do that has `block` and was not asked for it; none if one that was
    /// asked is not late yet.
    fn rescuer(&self, now: Instant, block: Block, late_after: Duration) -> Option<PeerKey> {
        let asked = |peer: &Peer| peer.outstanding.iter().find(|o| o.block == block).copied();
        let waits = |o: Outstanding| now.saturating_duration_since(o.since) <= late_after;
        if self.peers.values().filter_map(asked).any(waits) {
            return None;
        }
        self.peers
            .iter()
            .filter(|(_, peer)| {
                !peer.choking_us
                    && peer.has.has(block.piece)
                    && block.length <= peer.traits.block_length
                    && peer.outstanding_bytes < pipeline(&self.config, peer)
                    && asked(peer).is_none()
            })
            .min_by_key(|(_, peer)| peer.outstanding_bytes)
            .map(|(key, _)| *key)
    }

    pub(super) fn cancel_duplicates(&mut self, now: Instant, winner: PeerKey, block: Block) {
        let mut cancelled = Vec::new();
        for (key, peer) in &mut self.peers {
            if *key != winner && peer.settle(now, block).is_some() {
                cancelled.push(*key);
                self.outstanding_bytes = self
                    .outstanding_bytes
                    .saturating_sub(u64::from(block.length));
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

/// Bytes that may be outstanding at `peer`: what it delivers in a round trip and the pipeline time.
fn pipeline(config: &SwarmConfig, peer: &Peer) -> u64 {
    let block = u64::from(config.block_length.min(peer.traits.block_length));
    let most = u64::from(peer.traits.request_queue).saturating_mul(block);
    let bytes = match peer.round_trip.shortest() {
        None => config.first_pipeline,
        Some(round_trip) => peer
            .received
            .peak_bytes_in(round_trip + config.pipeline_time),
    };
    bytes
        .max(config.min_pipeline)
        .max(block + 1)
        .min(most.max(block))
}
