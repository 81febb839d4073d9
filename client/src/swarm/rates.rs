//! What is measured of a peer: how fast it delivers, how long a request waits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes per second, an exponential average over about a second of activity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throughput {
    rate: f64,
    latest: f64,
    bytes: u64,
    since: Instant,
}

/// Shorter windows follow the burst of one piece instead of the link.
const THROUGHPUT_WINDOW: Duration = Duration::from_millis(100);

impl Throughput {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rate: 0.0,
            latest: 0.0,
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
            0.7 * self.rate + 0.3 * measured
        };
        self.latest = measured;
        self.bytes = 0;
        self.since = now;
    }

    /// Whether anything was measured.
    pub(super) fn is_known(&self) -> bool {
        self.rate > 0.0
    }

    /// Bytes that fit into `span` at the average rate.
    pub(super) fn bytes_in(&self, span: Duration) -> u64 {
        bytes_at(self.rate, span)
    }

    /// Bytes that fit into `span` at the average or the latest rate, whichever is higher: a pipeline that
    /// follows it opens within a few round trips.
    pub(super) fn peak_bytes_in(&self, span: Duration) -> u64 {
        bytes_at(self.rate.max(self.latest), span)
    }
}

fn bytes_at(rate: f64, span: Duration) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float-to-integer cast saturates, and the rate is never negative"
    )]
    let bytes = (rate * span.as_secs_f64()) as u64;
    bytes
}

/// What an uplink can send, and how much of what it was given it cannot have sent yet.
///
/// A socket that takes no more says nothing about the uplink: the receiver may hold it up. So the rate is
/// the highest of the last seconds, and the queue is what that rate leaves of what was handed out.
#[derive(Clone, Debug)]
pub(super) struct Uplink {
    /// Bytes sent in each of the last windows.
    windows: VecDeque<u64>,
    present: u64,
    since: Instant,
    queue: u64,
    queue_at: Instant,
}

/// Length of a window, and how many count.
const UPLINK_WINDOW: Duration = Duration::from_millis(250);
const UPLINK_WINDOWS: usize = 12;

impl Uplink {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            windows: VecDeque::new(),
            present: 0,
            since: now,
            queue: 0,
            queue_at: now,
        }
    }

    /// `bytes` have left.
    pub(super) fn sent(&mut self, now: Instant, bytes: u64) {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= UPLINK_WINDOW {
            let windows = elapsed.as_millis() / UPLINK_WINDOW.as_millis();
            // A longer pause is a window too: it lowers nothing, since the highest counts.
            let bytes = u128::from(self.present) / windows.max(1);
            self.windows
                .push_back(u64::try_from(bytes).unwrap_or(u64::MAX));
            if self.windows.len() > UPLINK_WINDOWS {
                self.windows.pop_front();
            }
            self.present = 0;
            self.since = now;
        }
        self.present = self.present.saturating_add(bytes);
    }

    /// Bytes that it sends within `span`; 0 before it is known.
    pub(super) fn bytes_in(&self, span: Duration) -> u64 {
        let highest = self.windows.iter().max().copied().unwrap_or(0);
        let bytes = u128::from(highest) * span.as_micros() / UPLINK_WINDOW.as_micros();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// `bytes` are handed to a socket.
    pub(super) fn handed(&mut self, now: Instant, bytes: u64) {
        self.queue = self.queue(now).saturating_add(bytes);
        self.queue_at = now;
    }

    /// Bytes handed to sockets that cannot have left yet.
    pub(super) fn queue(&self, now: Instant) -> u64 {
        let gone = self.bytes_in(now.saturating_duration_since(self.queue_at));
        self.queue.saturating_sub(gone)
    }
}

/// The shortest time in which something was answered lately: the round trip without queues.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrip {
    shortest: [Option<Duration>; 2],
    since: Instant,
}

/// A route may change: a sample counts for one to two of these.
const ROUND_TRIP_WINDOW: Duration = Duration::from_secs(10);

impl RoundTrip {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            shortest: [None; 2],
            since: now,
        }
    }

    pub(super) fn record(&mut self, now: Instant, sample: Duration) {
        let [present, before] = &mut self.shortest;
        if now.saturating_duration_since(self.since) > ROUND_TRIP_WINDOW {
            *before = present.take();
            self.since = now;
        }
        *present = Some(present.map_or(sample, |shortest| shortest.min(sample)));
    }

    /// None before the first answer.
    pub(super) fn shortest(&self) -> Option<Duration> {
        self.shortest.iter().flatten().min().copied()
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
