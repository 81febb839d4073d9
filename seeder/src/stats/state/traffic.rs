//! Where bytes came from, and how many of them in the last hour, day and week.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Bytes by origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Traffic {
    /// Read from registries by this supernode: the first copy.
    pub(crate) ingested: u64,
    /// Taken from registries by nodes, because the swarm did not bring it.
    pub(crate) bypassed: u64,
    /// Received by nodes from supernodes.
    pub(crate) from_supernode: u64,
    /// Received by nodes from each other.
    pub(crate) from_peers: u64,
}

impl Traffic {
    /// All that the registries sent.
    pub(crate) fn registry(&self) -> u64 {
        self.ingested.saturating_add(self.bypassed)
    }

    /// What the registries would have sent more if each node had asked them.
    pub(crate) fn saved(&self) -> u64 {
        let delivered = self.from_supernode.saturating_add(self.from_peers);
        delivered.saturating_sub(self.ingested)
    }

    pub(crate) fn add(&mut self, more: &Self) {
        for (sum, more) in [
            (&mut self.ingested, more.ingested),
            (&mut self.bypassed, more.bypassed),
            (&mut self.from_supernode, more.from_supernode),
            (&mut self.from_peers, more.from_peers),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// Bytes by origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Traffic)]
pub(crate) struct TrafficBytes {
    /// What registries sent: the supernode's first copy, and what nodes took there themselves.
    pub(crate) from_registry_bytes: u64,
    /// What nodes received from supernodes.
    pub(crate) from_supernode_bytes: u64,
    /// What nodes received from each other.
    pub(crate) from_peers_bytes: u64,
    /// What registries would have sent more if every node had asked them.
    saved_bytes: u64,
}

impl From<Traffic> for TrafficBytes {
    fn from(traffic: Traffic) -> Self {
        Self {
            from_registry_bytes: traffic.registry(),
            from_supernode_bytes: traffic.from_supernode,
            from_peers_bytes: traffic.from_peers,
            saved_bytes: traffic.saved(),
        }
    }
}

/// Bytes per second by origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct TrafficRate {
    from_registry_bytes_per_second: u64,
    from_supernode_bytes_per_second: u64,
    from_peers_bytes_per_second: u64,
}

/// How far back the chart looks; live is ten minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Span {
    /// Ten minutes, in slots of five seconds: as often as busy nodes announce themselves.
    #[default]
    Live,
    /// In slots of half a minute.
    Hour,
    /// In slots of ten minutes.
    Day,
    /// In slots of an hour.
    Week,
}

/// Bytes a slot, oldest first; the last slot is still being filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Chart {
    slot_seconds: u64,
    from_registry_bytes: Vec<u64>,
    from_supernode_bytes: Vec<u64>,
    from_peers_bytes: Vec<u64>,
}

/// The traffic of the last week in rings of bounded length, coarser the longer ago.
#[derive(Debug)]
pub(crate) struct History {
    since_start: Traffic,
    live: Ring,
    hour: Ring,
    day: Ring,
    week: Ring,
}

impl History {
    pub(crate) fn new(now: Instant) -> Self {
        let ring = |seconds, slots| Ring::new(now, Duration::from_secs(seconds), slots);
        Self {
            since_start: Traffic::default(),
            live: ring(5, 120),
            hour: ring(30, 120),
            day: ring(600, 144),
            week: ring(3600, 168),
        }
    }

    /// Adds what moved just now.
    pub(crate) fn add(&mut self, now: Instant, traffic: &Traffic) {
        self.since_start.add(traffic);
        for ring in [
            &mut self.live,
            &mut self.hour,
            &mut self.day,
            &mut self.week,
        ] {
            ring.add(now, traffic);
        }
    }

    pub(crate) fn since_start(&self) -> Traffic {
        self.since_start
    }

    /// What a later [`recall`](Self::recall) needs; the last ten minutes are not in it.
    pub(crate) fn remember(&mut self, now: Instant) -> PastTraffic {
        PastTraffic {
            hour: self.hour.remember(now),
            day: self.day.remember(now),
            week: self.week.remember(now),
        }
    }

    /// Puts what was remembered `ago` in place of what is here.
    pub(crate) fn recall(&mut self, now: Instant, past: PastTraffic, ago: Duration) {
        for (ring, past) in [
            (&mut self.hour, past.hour),
            (&mut self.day, past.day),
            (&mut self.week, past.week),
        ] {
            ring.recall(now, past, ago);
        }
    }

    /// What moved in the span.
    pub(crate) fn sum(&mut self, now: Instant, span: Span) -> Traffic {
        self.ring(now, span).sum()
    }

    /// The mean of the last slots that are full.
    pub(crate) fn rate(&mut self, now: Instant) -> TrafficRate {
        const SLOTS: usize = 3;
        let ring = self.ring(now, Span::Live);
        let mut sum = Traffic::default();
        for slot in ring.slots.iter().rev().skip(1).take(SLOTS) {
            sum.add(slot);
        }
        let full = ring.slots.len().saturating_sub(1).clamp(1, SLOTS) as u64;
        let seconds = ring.width.as_secs() * full;
        TrafficRate {
            from_registry_bytes_per_second: sum.registry() / seconds,
            from_supernode_bytes_per_second: sum.from_supernode / seconds,
            from_peers_bytes_per_second: sum.from_peers / seconds,
        }
    }

    pub(crate) fn chart(&mut self, now: Instant, span: Span) -> Chart {
        let ring = self.ring(now, span);
        let column = |of: fn(&Traffic) -> u64| ring.slots.iter().map(of).collect();
        Chart {
            slot_seconds: ring.width.as_secs(),
            from_registry_bytes: column(Traffic::registry),
            from_supernode_bytes: column(|slot| slot.from_supernode),
            from_peers_bytes: column(|slot| slot.from_peers),
        }
    }

    fn ring(&mut self, now: Instant, span: Span) -> &Ring {
        let ring = match span {
            Span::Live => &mut self.live,
            Span::Hour => &mut self.hour,
            Span::Day => &mut self.day,
            Span::Week => &mut self.week,
        };
        ring.advance(now);
        ring
    }
}

/// A [`History`] that outlives its program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PastTraffic {
    hour: PastSlots,
    day: PastSlots,
    week: PastSlots,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PastSlots {
    slots: VecDeque<Traffic>,
    /// Seconds for which the last slot has been filled.
    filled_for: u64,
}

/// Sums over slots of equal length; the last one is the present.
#[derive(Debug)]
struct Ring {
    width: Duration,
    most: usize,
    slots: VecDeque<Traffic>,
    /// When the last slot began.
    began: Instant,
}

impl Ring {
    fn new(now: Instant, width: Duration, most: usize) -> Self {
        Self {
            width,
            most,
            slots: VecDeque::from([Traffic::default()]),
            began: now,
        }
    }

    fn add(&mut self, now: Instant, traffic: &Traffic) {
        self.advance(now);
        if let Some(slot) = self.slots.back_mut() {
            slot.add(traffic);
        }
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began).as_secs() / self.width.as_secs();
        let widths = u32::try_from(passed).unwrap_or(u32::MAX);
        self.began += self.width.saturating_mul(widths);
        self.push_empty(passed);
    }

    fn remember(&mut self, now: Instant) -> PastSlots {
        self.advance(now);
        PastSlots {
            slots: self.slots.clone(),
            filled_for: now.saturating_duration_since(self.began).as_secs(),
        }
    }

    fn recall(&mut self, now: Instant, past: PastSlots, ago: Duration) {
        if past.slots.is_empty() {
            return;
        }
        let width = self.width.as_secs();
        let passed = ago.as_secs().saturating_add(past.filled_for);
        self.slots = past.slots;
        self.push_empty(passed / width);
        // A clock that does not reach back so far only moves the slots' borders.
        let began = now.checked_sub(Duration::from_secs(passed % width));
        self.began = began.unwrap_or(now);
    }

    fn push_empty(&mut self, slots: u64) {
        let slots = usize::try_from(slots).unwrap_or(self.most).min(self.most);
        self.slots.extend(vec![Traffic::default(); slots]);
        let surplus = self.slots.len().saturating_sub(self.most);
        self.slots.drain(..surplus);
    }

    fn sum(&self) -> Traffic {
        let mut sum = Traffic::default();
        for slot in &self.slots {
            sum.add(slot);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(bytes: u64) -> Traffic {
        Traffic {
            from_peers: bytes,
            ..Traffic::default()
        }
    }

    #[test]
    fn each_span_remembers_as_long_as_it_says() {
        let start = Instant::now();
        let mut history = History::new(start);
        history.add(start, &peers(7));
        let hours = |hours: u64| start + Duration::from_secs(hours * 3600);
        for (later, expected) in [
            (start + Duration::from_secs(59 * 60), [0, 7, 7, 7]),
            (hours(2), [0, 0, 7, 7]),
            (hours(25), [0, 0, 0, 7]),
            (hours(24 * 8), [0, 0, 0, 0]),
        ] {
            let sums = [Span::Live, Span::Hour, Span::Day, Span::Week];
            let sums = sums.map(|span| history.sum(later, span).from_peers);
            assert_eq!(sums, expected);
        }
        assert_eq!(history.since_start(), peers(7));
    }

    #[test]
    fn a_chart_has_a_number_for_each_slot_and_never_more_than_its_ring() {
        let start = Instant::now();
        let mut history = History::new(start);
        for second in 0..12 {
            history.add(start + Duration::from_secs(second), &peers(1));
        }
        let now = start + Duration::from_secs(12);
        assert_eq!(history.chart(now, Span::Live).from_peers_bytes, [5, 5, 2]);
        assert_eq!(history.rate(now).from_peers_bytes_per_second, 1);
        let much_later = start + Duration::from_secs(1_000_000);
        history.add(much_later, &peers(3));
        let chart = history.chart(much_later, Span::Live);
        assert_eq!(chart.from_peers_bytes.len(), 120);
        assert_eq!(chart.from_peers_bytes.last(), Some(&3));
        assert_eq!(chart.from_peers_bytes.iter().sum::<u64>(), 3);
    }

    #[test]
    fn what_is_remembered_goes_on_after_any_pause() {
        let start = Instant::now();
        let mut before = History::new(start);
        before.add(start, &peers(7));
        let stopped = start + Duration::from_secs(100);
        before.add(stopped, &peers(5));
        let past = before.remember(stopped);
        for (pause, expected) in [
            (0, [12, 12, 12]),
            (59 * 60, [5, 12, 12]),
            (2 * 3600, [0, 12, 12]),
            (30 * 3600, [0, 0, 12]),
            (u64::MAX, [0, 0, 0]),
        ] {
            let now = Instant::now();
            let mut after = History::new(now);
            after.recall(now, past.clone(), Duration::from_secs(pause));
            let sums = [Span::Hour, Span::Day, Span::Week];
            let sums = sums.map(|span| after.sum(now, span).from_peers);
            assert_eq!(sums, expected, "{pause}");
            assert_eq!(after.since_start(), Traffic::default());
        }
    }

    #[test]
    fn nothing_that_is_recalled_makes_a_ring_longer_or_takes_what_is_here() {
        let now = Instant::now();
        let mut history = History::new(now);
        history.add(now, &peers(3));
        history.recall(now, PastTraffic::default(), Duration::ZERO);
        assert_eq!(history.sum(now, Span::Day), peers(3));
        let long = PastSlots {
            slots: vec![peers(1); 1000].into(),
            filled_for: u64::MAX,
        };
        let past = PastTraffic {
            day: PastSlots {
                filled_for: 0,
                ..long.clone()
            },
            week: long,
            ..PastTraffic::default()
        };
        history.recall(now, past, Duration::ZERO);
        assert_eq!(history.sum(now, Span::Day), peers(144));
        assert_eq!(history.sum(now, Span::Week), Traffic::default());
        assert_eq!(history.chart(now, Span::Week).from_peers_bytes.len(), 168);
    }

    #[test]
    fn saved_is_what_was_delivered_beyond_the_first_copy() {
        let traffic = Traffic {
            ingested: 100,
            bypassed: 30,
            from_supernode: 110,
            from_peers: 390,
        };
        assert_eq!((traffic.saved(), traffic.registry()), (400, 130));
        let arriving = Traffic {
            ingested: 100,
            ..Traffic::default()
        };
        assert_eq!(arriving.saved(), 0);
    }
}
