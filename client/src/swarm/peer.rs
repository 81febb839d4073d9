//! What the swarm knows of one connected peer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use flotilla_torrents::{Bitfield, Block, PieceIndex};

use super::rates::{RoundTrip, Throughput};

/// Names one connection; minted by the driver, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerKey(pub u64);

/// What the handshakes say about a peer.
#[derive(Clone, Copy, Debug)]
pub struct PeerTraits {
    /// It showed a valid ticket (or the swarm is open): pieces may be announced and sent to it.
    pub authorized: bool,
    /// It is a client of any make in a swarm that is open: it is shown all there is at once, and
    /// the super-seeder leaves it out of its account.
    pub stranger: bool,
    /// Largest request it serves, in bytes.
    pub block_length: u32,
    /// Requests it is willing to queue (BEP 10 `reqq`).
    pub request_queue: u32,
    /// It speaks the fast extension (BEP 6): requests are answered or rejected.
    pub fast: bool,
}

impl PeerTraits {
    /// What counts for a peer of an open swarm until it says more (BEP 10).
    pub fn of_stranger(fast: bool) -> Self {
        Self {
            authorized: true,
            stranger: true,
            block_length: super::STRANGER_BLOCK,
            request_queue: 250,
            fast,
        }
    }
}

/// A request of ours that was not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outstanding {
    pub(super) block: Block,
    pub(super) since: Instant,
}

/// A piece that was pointed out to one peer and that this peer does not have yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) piece: PieceIndex,
    /// The peer has asked for it.
    pub(super) asked: bool,
    /// When it was made, or asked for.
    pub(super) since: Instant,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) traits: PeerTraits,
    pub(super) has: Bitfield,
    pub(super) choking_us: bool,
    pub(super) told_interest: bool,
    pub(super) outstanding: Vec<Outstanding>,
    pub(super) outstanding_bytes: u64,
    pub(super) received: Throughput,
    /// Of our requests.
    pub(super) round_trip: RoundTrip,
    pub(super) last_heard: Instant,
    /// When it last sent a block, or was asked for one with nothing else outstanding.
    pub(super) last_block: Instant,
    /// The number of the picker's [openings](super::piece_picker::PiecePicker::openings) at which it had
    /// nothing to ask this peer for.
    pub(super) exhausted: Option<u64>,
    /// Its requests that wait for an upload slot.
    pub(super) uploads: VecDeque<Block>,
    /// Bytes of blocks given to its connection and not yet written.
    pub(super) in_socket: u64,
    /// Pieces of ours that it has too, and was not shown yet.
    pub(super) unannounced: Vec<PieceIndex>,
    /// When such pieces were last shown to it.
    pub(super) announced: Instant,
    pub(super) offers: Vec<Offer>,
    /// Offers in a row that were taken back, unused.
    pub(super) ignored_offers: u32,
}

impl Peer {
    pub(super) fn new(now: Instant, traits: PeerTraits, nothing: Bitfield) -> Self {
        Self {
            traits,
            has: nothing,
            choking_us: true,
            told_interest: false,
            outstanding: Vec::new(),
            outstanding_bytes: 0,
            received: Throughput::new(now),
            round_trip: RoundTrip::new(now),
            last_heard: now,
            last_block: now,
            exhausted: None,
            uploads: VecDeque::new(),
            in_socket: 0,
            unannounced: Vec::new(),
            announced: now,
            offers: Vec::new(),
            ignored_offers: 0,
        }
    }

    /// Whether it was asked for `block`.
    pub(super) fn owes(&self, block: Block) -> bool {
        self.outstanding.iter().any(|o| o.block == block)
    }

    /// Takes `block` off the outstanding requests; its waiting time when it was there.
    pub(super) fn settle(&mut self, now: Instant, block: Block) -> Option<Duration> {
        let at = self.outstanding.iter().position(|o| o.block == block)?;
        let settled = self.outstanding.swap_remove(at);
        self.outstanding_bytes = self
            .outstanding_bytes
            .saturating_sub(u64::from(block.length));
        Some(now.saturating_duration_since(settled.since))
    }
}
