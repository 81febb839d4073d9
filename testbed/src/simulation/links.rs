//! The links: each carries one block after the other at its rate.

use super::events::Time;
use super::scenario::Scenario;

/// A message waits this long behind blocks at most: the queue of the network card. The other blocks wait
/// in the sockets.
const CARD_QUEUE: Time = 50_000_000;
/// Bytes of Ethernet, IP and TCP headers around a message.
const PACKET_HEADERS: f64 = 66.0;
/// A socket takes the next block although the receiver's link is this far behind.
const NETWORK_QUEUE: Time = 50_000_000;

/// One direction of one link.
#[derive(Clone, Debug)]
pub(super) struct Link {
    nanoseconds_per_byte: f64,
    free: Time,
    /// Bytes carried, headers included.
    pub(super) carried: f64,
}

impl Link {
    fn new(mbit: f64) -> Self {
        Self {
            nanoseconds_per_byte: 8e3 / mbit,
            free: 0,
            carried: 0.0,
        }
    }

    /// When the last of `bytes` has passed that are there at `at`.
    fn carry(&mut self, at: Time, bytes: f64) -> Time {
        self.carried += bytes;
        self.free = self.free.max(at) + nanoseconds(bytes * self.nanoseconds_per_byte);
        self.free
    }

    /// The same, for a receiver: it takes the bytes while they arrive.
    fn receive(&mut self, arrived: Time, bytes: f64) -> Time {
        self.carried += bytes;
        let taken = self.free + nanoseconds(bytes * self.nanoseconds_per_byte);
        self.free = taken.max(arrived);
        self.free
    }
}

/// When a block is written, and when it is there.
pub(super) struct Passage {
    pub(super) written: Time,
    pub(super) arrives: Time,
}

/// All links of a scenario.
pub(super) struct Links {
    pub(super) up: Vec<Link>,
    pub(super) down: Vec<Link>,
    zones: Vec<usize>,
    zone_up: Vec<Link>,
    zone_down: Vec<Link>,
    zone_latency: Vec<Time>,
    latency: Time,
    headers: f64,
}

impl Links {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let nodes = scenario.nodes.iter().flat_map(|group| {
            std::iter::repeat_n((group.up_mbit, group.down(), group.zone), group.count)
        });
        let hosts: Vec<_> = std::iter::once((scenario.supernode_mbit, f64::INFINITY, 0))
            .chain(nodes)
            .collect();
        let zone_links = || {
            scenario
                .zones
                .iter()
                .map(|zone| Link::new(zone.mbit))
                .collect()
        };
        let zone_latency = scenario
            .zones
            .iter()
            .map(|zone| milliseconds(zone.latency_ms));
        Self {
            up: hosts.iter().map(|(up, _, _)| Link::new(*up)).collect(),
            down: hosts.iter().map(|(_, down, _)| Link::new(*down)).collect(),
            zones: hosts.iter().map(|(_, _, zone)| *zone).collect(),
            zone_up: zone_links(),
            zone_down: zone_links(),
            zone_latency: zone_latency.collect(),
            latency: milliseconds(scenario.latency_ms),
            headers: 1.0 + scenario.header_percent / 100.0,
        }
    }

    /// Sends a block of `bytes`.
    pub(super) fn carry(&mut self, now: Time, from: usize, to: usize, bytes: u32) -> Passage {
        let bytes = f64::from(bytes) * self.headers;
        let left = self
            .up
            .get_mut(from)
            .map_or(now, |link| link.carry(now, bytes));
        let mut passed = left;
        if let Some((here, there)) = self.other_zone(from, to) {
            passed = self
                .zone_up
                .get_mut(here)
                .map_or(passed, |link| link.receive(passed, bytes));
            passed = self
                .zone_down
                .get_mut(there)
                .map_or(passed, |link| link.receive(passed, bytes));
        }
        let taken = self
            .down
            .get_mut(to)
            .map_or(passed, |link| link.receive(passed, bytes));
        Passage {
            written: left.max(taken.saturating_sub(NETWORK_QUEUE)),
            arrives: taken + self.delay(from, to),
        }
    }

    /// Sends messages of `bytes` in one packet; when they arrive.
    pub(super) fn message(&mut self, now: Time, from: usize, to: usize, bytes: usize) -> Time {
        let bytes = u32::try_from(bytes).map_or(f64::MAX, f64::from) + PACKET_HEADERS;
        let behind = self
            .up
            .get_mut(from)
            .map_or(now, |link| link.carry(now, bytes));
        behind.min(now + CARD_QUEUE) + self.delay(from, to)
    }

    /// Time on the way.
    pub(super) fn delay(&self, from: usize, to: usize) -> Time {
        let of_zone = |zone: usize| self.zone_latency.get(zone).copied().unwrap_or(0);
        self.latency
            + self
                .other_zone(from, to)
                .map_or(0, |(here, there)| of_zone(here) + of_zone(there))
    }

    fn other_zone(&self, from: usize, to: usize) -> Option<(usize, usize)> {
        let (here, there) = (*self.zones.get(from)?, *self.zones.get(to)?);
        (here != there).then_some((here, there))
    }
}

fn milliseconds(ms: f64) -> Time {
    nanoseconds(ms * 1e6)
}

/// Virtual time of `nanoseconds`, which are never negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates"
)]
pub(super) fn nanoseconds(nanoseconds: f64) -> Time {
    nanoseconds as Time
}
