//! What a swarm requests of its peers.

use std::time::{Duration, Instant};

use flotilla_torrents::Block;
use flotilla_torrents::peer_wire::Message;

use super::Swarm;
use super::config::{OWN_BLOCK, REQUEST_TIME, SLOW_BLOCK, SwarmConfig};
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
            let length = request_length(&self.config, peer);
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
        self.send(key, Message::request(block));
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
                    && !peer.owes(block)
            })
            .min_by_key(|(_, peer)| peer.outstanding_bytes)
            .map(|(key, _)| *key)
    }

    pub(super) fn cancel_duplicates(&mut self, now: Instant, winner: PeerKey, block: Block) {
        let losers: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(key, peer)| **key != winner && peer.owes(block))
            .map(|(key, _)| *key)
            .collect();
        for key in losers {
            if self.settle(now, key, block).is_some() {
                self.send(key, Message::cancel(block));
            }
        }
    }

    /// Takes `block` off the outstanding requests of `key`; its waiting time when it was there.
    pub(super) fn settle(&mut self, now: Instant, key: PeerKey, block: Block) -> Option<Duration> {
        let waited = self.peers.get_mut(&key)?.settle(now, block)?;
        self.outstanding_bytes = self
            .outstanding_bytes
            .saturating_sub(u64::from(block.length));
        Some(waited)
    }

    /// `key` will not send `block`.
    pub(super) fn rejected(&mut self, now: Instant, key: PeerKey, block: Block) {
        // It has lost the piece; only a peer that chokes rejects what it has.
        if let Some(peer) = self.peers.get_mut(&key)
            && !peer.choking_us
            && peer.has.has(block.piece)
        {
            peer.has.clear(block.piece);
            self.picker.remove_copy(block.piece);
        }
        self.picker.unrequest(key, block);
        self.request_from_all(now);
    }

    /// None of these requests, which `key` had, will be answered.
    pub(super) fn forget_requests(&mut self, key: PeerKey, forgotten: &[Outstanding]) {
        for Outstanding { block, .. } in forgotten {
            self.outstanding_bytes = self
                .outstanding_bytes
                .saturating_sub(u64::from(block.length));
            self.picker.unrequest(key, *block);
        }
    }
}

/// Bytes to ask `peer` for in one request: many from a fast one, so that few messages move them.
fn request_length(config: &SwarmConfig, peer: &Peer) -> u32 {
    let delivered = peer.received.bytes_in(REQUEST_TIME);
    let fitting = u32::try_from(delivered).unwrap_or(u32::MAX);
    let fitting = fitting.clamp(SLOW_BLOCK, OWN_BLOCK);
    // The largest power of two in it.
    let fitting = 1 << fitting.ilog2();
    fitting
        .min(config.block_length)
        .min(peer.traits.block_length)
}

/// Bytes that may be outstanding at `peer`: what it delivers in a round trip and the pipeline time.
fn pipeline(config: &SwarmConfig, peer: &Peer) -> u64 {
    let block = u64::from(request_length(config, peer));
    let most = u64::from(peer.traits.request_queue).saturating_mul(block);
    let bytes = match peer.round_trip.shortest() {
        Some(round_trip) if peer.received.is_known() => peer
            .received
            .peak_bytes_in(round_trip + config.pipeline_time),
        _ => config.first_pipeline,
    };
    bytes
        .max(config.min_pipeline)
        .max(block * 2)
        .min(most.max(block))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flotilla_torrents::{Bitfield, Geometry, PieceIndex};

    use super::super::{PeerTraits, Role, SwarmConfig, Transmit};
    use super::*;

    const PEER: PeerKey = PeerKey(1);

    fn connected(held: bool, now: Instant) -> (Swarm, Geometry) {
        let geometry = Geometry::new(256 << 20, 1 << 20).unwrap();
        let held = if held {
            Bitfield::full(&geometry)
        } else {
            Bitfield::empty(&geometry)
        };
        let mut swarm = Swarm::new(SwarmConfig::default(), Role::Node, geometry, held, 1, now);
        let traits = PeerTraits {
            authorized: true,
            stranger: false,
            block_length: OWN_BLOCK,
            request_queue: 2048,
            fast: true,
        };
        swarm.handle_hashes_known(now, geometry.piece_count());
        swarm.handle_connected(now, PEER, traits);
        (swarm, geometry)
    }

    fn drain(swarm: &mut Swarm, now: Instant) -> Vec<Transmit> {
        std::iter::from_fn(|| swarm.poll_transmit(now)).collect()
    }

    /// The longest request to a peer that sends so many bytes in a millisecond.
    fn longest_request(rate: u64) -> u32 {
        let mut now = Instant::now();
        let (mut swarm, geometry) = connected(false, now);
        swarm.handle_message(now, PEER, &Message::HaveAll);
        swarm.handle_message(now, PEER, &Message::Unchoke);
        let mut longest = 0;
        let mut stored: Option<PieceIndex> = None;
        for _ in 0..1000 {
            for transmit in drain(&mut swarm, now) {
                let Transmit::Message(
                    _,
                    Message::Request {
                        index,
                        begin,
                        length,
                    },
                ) = transmit
                else {
                    continue;
                };
                longest = longest.max(length);
                now += Duration::from_micros(u64::from(length) * 1000 / rate);
                let block = geometry.block(index, begin, length).unwrap();
                swarm.handle_block(now, PEER, block);
                if let Some(piece) = stored.replace(block.piece).filter(|p| *p != block.piece) {
                    swarm.handle_piece_stored(now, piece);
                }
            }
        }
        longest
    }

    #[test]
    fn requests_are_longer_the_faster_the_peer_is() {
        assert_eq!(longest_request(1000), SLOW_BLOCK);
        assert_eq!(longest_request(6_000), SLOW_BLOCK);
        assert_eq!(longest_request(20_000), 128 * 1024);
        assert_eq!(longest_request(1_000_000), OWN_BLOCK);
    }

    #[test]
    fn a_complete_swarm_asks_for_time_only_while_it_gives() {
        let now = Instant::now();
        let (mut swarm, _) = connected(true, now);
        drain(&mut swarm, now);
        assert_eq!(swarm.poll_timeout(), None);
        let request = Message::Request {
            index: 3,
            begin: 0,
            length: SLOW_BLOCK,
        };
        swarm.handle_message(now, PEER, &request);
        let sent = drain(&mut swarm, now);
        let [Transmit::Block(PEER, block)] = sent.as_slice() else {
            panic!("{sent:?}");
        };
        assert!(swarm.poll_timeout().is_some());
        swarm.handle_block_sent(now, PEER, *block);
        drain(&mut swarm, now);
        assert_eq!(swarm.poll_timeout(), None);
    }
}
