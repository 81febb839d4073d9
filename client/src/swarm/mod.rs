//! The swarm's decisions, without IO: which piece from which peer, which peer to serve, which to ban.
//!
//! [`Swarm`] holds no socket, file, timer, clock or source of randomness. The same code is
//! driven by tokio on a node and by virtual time in the tests.

mod config;
mod output;
mod peer;
mod piece_picker;
mod rarity;
mod rates;
mod requests;
mod serving;
mod super_seeding;
mod upload_queue;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use flotilla_torrents::peer_wire::Message;
use flotilla_torrents::{Bitfield, Block, Geometry, PieceIndex};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

pub use self::config::{OWN_BLOCK, REQUEST_QUEUE, STRANGER_BLOCK, SwarmConfig};
pub use self::output::{BlockOutcome, DisconnectReason, Event, Transmit};
use self::peer::Peer;
pub use self::peer::{PeerKey, PeerTraits};
use self::piece_picker::{Arrival, PiecePicker};
use self::rates::{BlockLatency, Throughput};
use self::super_seeding::SuperSeeder;
use self::upload_queue::UploadQueue;

/// How this host takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its pieces come from the source; it shows them one by one (super-seeding).
    Origin,
    /// Its pieces come from the peers; it shows all it has.
    Node,
}

/// One swarm as one host sees it.
///
/// Feed it with `handle_*`, each with the present time; after every call drain
/// [`poll_transmit`](Self::poll_transmit) and [`poll_event`](Self::poll_event), and call
/// [`handle_timeout`](Self::handle_timeout) at [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Swarm {
    config: SwarmConfig,
    geometry: Geometry,
    peers: BTreeMap<PeerKey, Peer>,
    picker: PiecePicker,
    uploads: UploadQueue,
    super_seeder: Option<SuperSeeder>,
    latency: BlockLatency,
    /// From all peers together.
    received: Throughput,
    outstanding_bytes: u64,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    next_tick: Instant,
    rng: SmallRng,
}

/// How often late blocks, silent peers and stale offers are looked for. Nothing on a
/// piece's normal path waits for it.
const TICK_INTERVAL: Duration = Duration::from_millis(50);

impl Swarm {
    /// A swarm that holds `held` already. `seed` makes its random choices repeatable.
    pub fn new(
        config: SwarmConfig,
        role: Role,
        geometry: Geometry,
        held: Bitfield,
        seed: u64,
        now: Instant,
    ) -> Self {
        let super_seeder = (role == Role::Origin)
            .then(|| SuperSeeder::new(held.iter_set(), geometry.piece_length(), now));
        Self {
            picker: PiecePicker::new(geometry, held, config.window_pieces),
            uploads: UploadQueue::new(now),
            config,
            geometry,
            peers: BTreeMap::new(),
            super_seeder,
            latency: BlockLatency::new(),
            received: Throughput::new(now),
            outstanding_bytes: 0,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            next_tick: now + TICK_INTERVAL,
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    /// Asks for these pieces alone. With none of them missing it wants nothing of its peers, and
    /// still serves what it holds.
    pub fn wanting(mut self, wanted: &Bitfield) -> Self {
        self.picker.need_only(wanted);
        self
    }

    /// Whether every piece that is wanted is held.
    pub fn is_complete(&self) -> bool {
        self.picker.is_complete()
    }

    /// The pieces held, verified and stored.
    pub fn held(&self) -> &Bitfield {
        self.picker.held()
    }

    /// Connected peers.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Whether the connection of `key` is one of its peers.
    pub fn is_connected(&self, key: PeerKey) -> bool {
        self.peers.contains_key(&key)
    }

    /// Whether a peer is being sent something.
    pub fn is_uploading(&self) -> bool {
        self.uploads.is_active()
    }

    /// The first `known` pieces have a published hash.
    pub fn handle_hashes_known(&mut self, now: Instant, known: u32) {
        self.picker.set_known(known);
        self.request_from_all(now);
    }

    /// A reader waits for piece `next` (`None`: the reader is gone).
    pub fn handle_reader(&mut self, now: Instant, reader: u64, next: Option<PieceIndex>) {
        self.picker.set_reader(reader, next);
        self.request_from_all(now);
    }

    /// A connection whose handshakes are done.
    pub fn handle_connected(&mut self, now: Instant, key: PeerKey, traits: PeerTraits) {
        self.peers
            .insert(key, Peer::new(now, traits, Bitfield::empty(&self.geometry)));
        if !traits.authorized {
            return;
        }
        let hidden = self.super_seeder.is_some() && !traits.stranger;
        let greeting = if hidden || self.held().count() == 0 {
            if traits.fast {
                Some(Message::HaveNone)
            } else {
                None
            }
        } else if traits.stranger && traits.fast && self.held().is_full() {
            Some(Message::HaveAll)
        } else {
            Some(Message::Bitfield(self.held().to_wire().into()))
        };
        if let Some(greeting) = greeting {
            self.send(key, greeting);
        }
        self.send(key, Message::Unchoke);
        self.offer(now);
    }

    /// What a peer serves became known after its handshake (BEP 10): the longest block in bytes,
    /// and the requests that it queues.
    pub fn handle_limits(&mut self, now: Instant, key: PeerKey, block: u32, requests: u32) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.traits.block_length = block;
            peer.traits.request_queue = requests;
        }
        self.request_from(now, key);
    }

    /// A peer wants nothing any more (BEP 21).
    pub fn handle_upload_only(&mut self, key: PeerKey) {
        if self.picker.is_complete() && self.peers.contains_key(&key) {
            self.events
                .push_back(Event::Disconnect(key, DisconnectReason::NothingToExchange));
        }
    }

    /// The connection is gone; its requests go elsewhere.
    pub fn handle_disconnected(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.remove(&key) else {
            return;
        };
        self.uploads.remove(key, &peer);
        for piece in peer.has.iter_set() {
            self.picker.remove_copy(piece);
        }
        self.forget_requests(key, &peer.outstanding);
        if let Some(seeder) = &mut self.super_seeder {
            seeder.take_back(&peer.offers, &self.picker);
        }
        self.request_from_all(now);
        self.offer(now);
    }

    /// A message other than a block.
    pub fn handle_message(&mut self, now: Instant, key: PeerKey, message: &Message) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.last_heard = now;
        match message {
            Message::Choke => {
                peer.choking_us = true;
                // BEP 6: with the fast extension each request is still answered or rejected.
                if !peer.traits.fast {
                    let forgotten = std::mem::take(&mut peer.outstanding);
                    peer.outstanding_bytes = 0;
                    self.forget_requests(key, &forgotten);
                    self.request_from_all(now);
                }
            }
            Message::Unchoke => {
                peer.choking_us = false;
                self.request_from(now, key);
            }
            Message::Have(index) => match self.geometry.piece(*index) {
                Some(piece) => self.peer_has(now, key, std::iter::once(piece)),
                None => self.misbehaved(key, "have outside the geometry"),
            },
            Message::Bitfield(bits) => match Bitfield::from_wire(&self.geometry, bits) {
                Ok(bits) => self.peer_has(now, key, bits.iter_set()),
                Err(_) => self.misbehaved(key, "malformed bitfield"),
            },
            Message::HaveAll => self.peer_has(now, key, self.geometry.pieces()),
            Message::Request {
                index,
                begin,
                length,
            } => {
                self.handle_request(now, key, *index, *begin, *length);
            }
            Message::Cancel {
                index,
                begin,
                length,
            } => {
                let block = self.geometry.block(*index, *begin, *length);
                let queued = block.and_then(|block| peer.uploads.iter().position(|b| *b == block));
                // BEP 6: a cancelled request is still answered, by the block or by this.
                if let Some(block) = queued.and_then(|at| peer.uploads.remove(at))
                    && peer.traits.fast
                {
                    self.send(key, Message::reject(block));
                }
            }
            Message::Reject {
                index,
                begin,
                length,
            } => {
                if let Some(block) = self.geometry.block(*index, *begin, *length)
                    && self.settle(now, key, block).is_some()
                {
                    self.rejected(now, key, block);
                }
            }
            // Interest changes nothing, since no peer is choked; the others are hints.
            _ => {}
        }
    }

    /// Bytes of `block` arrived; keep them in the piece's buffer if the outcome says so.
    pub fn handle_block(&mut self, now: Instant, key: PeerKey, block: Block) -> BlockOutcome {
        let Some(peer) = self.peers.get_mut(&key) else {
            return BlockOutcome::Discard;
        };
        peer.last_heard = now;
        peer.last_block = now;
        peer.received.record(now, u64::from(block.length));
        self.received.record(now, u64::from(block.length));
        let Some(waited) = self.settle(now, key, block) else {
            // Cancelled while it was on its way, or never asked for: harmless either way.
            return BlockOutcome::Discard;
        };
        self.latency.record(waited);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.round_trip.record(now, waited);
        }
        let arrival = self.picker.arrived(key, block);
        if arrival == Arrival::Useless {
            self.request_from(now, key);
            return BlockOutcome::Discard;
        }
        self.cancel_duplicates(now, key, block);
        if arrival == Arrival::Completed {
            self.events.push_back(Event::PieceReceived(block.piece));
        }
        self.request_from(now, key);
        BlockOutcome::Keep
    }

    /// The piece is verified and can be read from the store.
    pub fn handle_piece_stored(&mut self, now: Instant, piece: PieceIndex) {
        let Some(senders) = self.picker.hold(piece) else {
            return;
        };
        self.announce(now, piece, &senders);
        if let Some(seeder) = &mut self.super_seeder {
            seeder.add(piece);
            self.offer(now);
            return;
        }
        if self.picker.is_complete() {
            self.part_from_seeders();
        }
    }

    /// The piece does not match its hash: fetch it again, and shun the peer if there is
    /// only one to blame. The next try comes from one peer, so that a second corruption
    /// has a single author.
    pub fn handle_piece_corrupt(&mut self, now: Instant, piece: PieceIndex) {
        let contributors = self.picker.reset(piece);
        if let [culprit] = contributors.as_slice() {
            self.events
                .push_back(Event::Disconnect(*culprit, DisconnectReason::CorruptPiece));
        }
        self.request_from_all(now);
    }

    /// A piece that was held is gone: it is asked for again. A source's piece too, of the peers that
    /// have it.
    pub fn handle_piece_lost(&mut self, now: Instant, piece: PieceIndex) {
        if self.picker.lose(piece) {
            self.request_from_all(now);
        }
    }

    /// The connection of `key` has written `block`.
    pub fn handle_block_sent(&mut self, now: Instant, key: PeerKey, block: Block) {
        if let Some(peer) = self.peers.get_mut(&key) {
            self.uploads.sent(now, peer, u64::from(block.length));
        }
        self.offer(now);
    }

    /// Looks for late blocks, silent peers and stale offers.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK_INTERVAL;
        if let Some(seeder) = &mut self.super_seeder {
            seeder.expire(now, &mut self.peers, &self.picker);
            self.offer(now);
        }
        let snub = self.config.snub_timeout;
        let snubbed = self.peers.iter().filter(|(_, peer)| {
            !peer.outstanding.is_empty() && now.saturating_duration_since(peer.last_heard) > snub
        });
        let snubbed: Vec<PeerKey> = snubbed.map(|(key, _)| *key).collect();
        for key in snubbed {
            self.events
                .push_back(Event::Disconnect(key, DisconnectReason::Snubbed));
        }
        self.announce_deferred(now);
        self.rescue_late_blocks(now);
        self.request_from_all(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    /// None while nothing is wanted of the peers, and nothing waits to be given to them.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let lacks = |peer: &Peer| peer.traits.authorized && !peer.has.is_full();
        let gives = self.uploads.is_active()
            || self.super_seeder.is_some() && self.peers.values().any(lacks)
            || self.peers.values().any(|peer| !peer.unannounced.is_empty());
        let takes = !self.picker.is_complete() && !self.peers.is_empty();
        (takes || gives).then_some(self.next_tick)
    }

    /// The next thing to send.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if let Some(transmit) = self.transmits.pop_front() {
            return Some(transmit);
        }
        let (key, block) = self
            .uploads
            .next(now, &self.config, &mut self.peers, &mut self.rng)?;
        Some(Transmit::Block(key, block))
    }

    /// The next thing to do.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn send(&mut self, key: PeerKey, message: Message) {
        self.transmits.push_back(Transmit::Message(key, message));
    }

    fn misbehaved(&mut self, key: PeerKey, what: &'static str) {
        self.events
            .push_back(Event::Disconnect(key, DisconnectReason::Misbehaved(what)));
    }

    fn peer_has(&mut self, now: Instant, key: PeerKey, pieces: impl Iterator<Item = PieceIndex>) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let mut interesting = false;
        for piece in pieces {
            if peer.has.set(piece) {
                self.picker.add_copy(piece);
                interesting |= self.picker.needs(piece);
                if self.picker.is_open(piece) {
                    peer.exhausted = None;
                }
            }
            peer.offers.retain(|offer| offer.piece != piece);
        }
        let complete = peer.has.is_full();
        if interesting && !peer.told_interest {
            peer.told_interest = true;
            self.send(key, Message::Interested);
        }
        if complete && self.picker.is_complete() {
            self.events
                .push_back(Event::Disconnect(key, DisconnectReason::NothingToExchange));
            return;
        }
        self.offer(now);
        self.request_from(now, key);
    }

    fn part_from_seeders(&mut self) {
        for (key, peer) in &self.peers {
            if peer.has.is_full() {
                self.events
                    .push_back(Event::Disconnect(*key, DisconnectReason::NothingToExchange));
            }
        }
    }
}

#[cfg(test)]
mod stranger_tests;
