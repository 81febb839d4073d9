//! What a swarm requests of its peers.

use std::time::Instant;

use flotilla_torrents::Block;
use flotilla_torrents::peer_wire::Message;

use super::Swarm;
use super::config::{OWN_BLOCK, REQUEST_TIME, SLOW_BLOCK};
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
            let length = self.request_length(peer);
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

    /// Bytes to ask `peer` for in one request: many from a fast one, so that few messages move them.
    fn request_length(&self, peer: &Peer) -> u32 {
        let delivered = peer.received.bytes_in(REQUEST_TIME);
        let fitting = u32::try_from(delivered).unwrap_or(u32::MAX);
        let fitting = fitting.clamp(SLOW_BLOCK, OWN_BLOCK);
        // The largest power of two in it.
        let fitting = 1 << fitting.ilog2();
        fitting
            .min(self.config.block_length)
            .min(peer.traits.block_length)
    }

    /// Bytes that may be outstanding at `peer`: what it delivers in the pipeline time, and
    /// at least one piece and the beginning of the next.
    fn pipeline(&self, peer: &Peer) -> u64 {
        let block = u64::from(self.request_length(peer));
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
        for _ in 0..100 {
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
        assert_eq!(longest_request(100_000), OWN_BLOCK);
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
