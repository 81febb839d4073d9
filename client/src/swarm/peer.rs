//! What the swarm knows of one connected peer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use flotilla_torrents::{Bitfield, Block, PieceIndex};

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
    pub(super) sent: Throughput,
    pub(super) last_heard: Instant,
    /// Its requests that wait for an upload slot.
    pub(super) uploads: VecDeque<Block>,
    /// Blocks given to its connection and not yet written.
    pub(super) in_socket: usize,
    pub(super) offers: Vec<Offer>,
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
            sent: Throughput::new(now),
            last_heard: now,
            uploads: VecDeque::new(),
            in_socket: 0,
            offers: Vec::new(),
        }
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

/// Bytes per second, an exponential average over about a second of activity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throughput {
    rate: f64,
    bytes: u64,
    since: Instant,
}

/// Shorter windows follow the burst of one piece instead of the link.
const THROUGHPUT_WINDOW: Duration = Duration::from_millis(250);

impl Throughput {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rate: 0.0,
            bytes: 0,
            since: now,
        }
    }

    pub(super) fn record(&mut self, now: Instant, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < THROUGHPUT_WINDOW {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let measured = self.bytes as f64 / elapsed.as_secs_f64();
        self.rate = if self.rate == 0.0 {
            measured
        } else {
            0.6 * self.rate + 0.4 * measured
        };
        self.bytes = 0;
        self.since = now;
    }

    /// Bytes that fit into `span` at the present rate.
    pub(super) fn bytes_in(&self, span: Duration) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float-to-integer cast saturates, and the rate is never negative"
        )]
        let bytes = (self.rate * span.as_secs_f64()) as u64;
        bytes
    }
}

/// How long a request waits for its block, over the whole swarm: mean and mean deviation,
/// as TCP estimates its round trip (RFC 6298 section 2).
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockLatency {
    mean: Duration,
    deviation: Duration,
}

impl BlockLatency {
    pub(super) fn new() -> Self {
        Self {
            mean: Duration::from_millis(500),
            deviation: Duration::from_millis(250),
        }
    }

    pub(super) fn record(&mut self, sample: Duration) {
        let difference = self.mean.abs_diff(sample);
        self.deviation = (self.deviation * 7 + difference) / 8;
        self.mean = (self.mean * 15 + sample) / 16;
    }

    /// A block that waited longer is late: about the 95th percentile of what was seen.
    pub(super) fn late_after(&self) -> Duration {
        (self.mean + self.deviation * 3).max(Duration::from_millis(50))
    }
}
