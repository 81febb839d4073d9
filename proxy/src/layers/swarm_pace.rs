//! Whether the swarm is slow for a reader, and whether the registry is faster.
//!
//! Each single wait may be short and the whole still take minutes: a supernode behind a slow link keeps
//! every promise about silence. Below a least rate the registry is tried for a moment. What it gives
//! belongs to the response, so trying costs little; it continues only while it is clearly faster, since a
//! slow registry would be slower still if every node asked it.

use std::time::Duration;

/// Bytes a second below which the registry is tried. A node that pulls three layers over a link of
/// 50 Mbit/s, shared with what it sends, gets more for each.
const MIN_RATE: u64 = 512 * 1024;
/// Time spent waiting after which the rate is looked at.
const WINDOW: Duration = Duration::from_secs(3);
/// The registry was not faster: the next time the swarm has longer, twice as long each time.
const MAX_WINDOW: Duration = Duration::from_secs(96);
/// Time that the registry has to show what it gives.
const TRIAL: Duration = Duration::from_secs(2);
/// The registry stays the source if it gives this many times more.
const CLEARLY_FASTER: u64 = 2;
/// What is left would come at this rate within about a second.
const NOT_WORTH_IT: u64 = MIN_RATE;

/// Bytes, and the time spent waiting for them: what the client takes does not count.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    bytes: u64,
    waited: Duration,
}

impl Received {
    fn add(&mut self, bytes: usize, waited: Duration) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        self.waited = self.waited.saturating_add(waited);
    }

    /// Bytes a second.
    fn rate(&self) -> u64 {
        let millis = u64::try_from(self.waited.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        self.bytes.saturating_mul(1000) / millis
    }
}

/// Of one response.
#[derive(Debug)]
pub(super) struct SwarmPace {
    window: Duration,
    swarm: Received,
    /// The rate of the swarm, and what the registry has given since, while it is tried.
    trial: Option<(u64, Received)>,
}

impl Default for SwarmPace {
    fn default() -> Self {
        Self {
            window: WINDOW,
            swarm: Received::default(),
            trial: None,
        }
    }
}

impl SwarmPace {
    /// The swarm has given `bytes`; `left` are still to come. Returns its rate if the registry should
    /// be tried.
    pub(super) fn note_swarm(&mut self, bytes: usize, waited: Duration, left: u64) -> Option<u64> {
        self.swarm.add(bytes, waited);
        if self.swarm.waited < self.window {
            return None;
        }
        let rate = std::mem::take(&mut self.swarm).rate();
        (rate < MIN_RATE && left > NOT_WORTH_IT).then_some(rate)
    }

    /// The registry is tried from now on.
    pub(super) fn try_registry(&mut self, swarm_rate: u64) {
        self.trial = Some((swarm_rate, Received::default()));
    }

    /// The registry, while it is tried, has given `bytes`. Returns what came of it, once that is clear.
    pub(super) fn note_registry(&mut self, bytes: usize, waited: Duration) -> Option<Verdict> {
        let (swarm_rate, received) = self.trial.as_mut()?;
        received.add(bytes, waited);
        if received.waited < TRIAL {
            return None;
        }
        let registry_rate = received.rate();
        let swarm_rate = *swarm_rate;
        self.trial = None;
        if registry_rate >= swarm_rate.saturating_mul(CLEARLY_FASTER) {
            return Some(Verdict::Stay);
        }
        self.give_up_trial();
        Some(Verdict::Return {
            registry_rate,
            swarm_rate,
        })
    }

    /// Whether the registry is being tried.
    pub(super) fn is_trying(&self) -> bool {
        self.trial.is_some()
    }

    /// The registry did not deliver: the swarm has longer before it is tried again.
    pub(super) fn give_up_trial(&mut self) {
        self.trial = None;
        self.window = self.window.saturating_mul(2).min(MAX_WINDOW);
    }
}

/// What came of trying the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is clearly faster.
    Stay,
    /// It is not; bytes a second.
    Return { registry_rate: u64, swarm_rate: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: usize = 256 * 1024;
    const PLENTY: u64 = 1 << 30;

    #[test]
    fn a_swarm_that_gives_enough_is_left_alone_however_long_its_client_takes() {
        let mut pace = SwarmPace::default();
        for _ in 0..1000 {
            let half = Duration::from_millis(500);
            assert_eq!(pace.note_swarm(PART, half, PLENTY), None);
        }
    }

    #[test]
    fn the_registry_is_tried_and_stays_only_if_it_is_clearly_faster() {
        let mut pace = SwarmPace::default();
        let second = Duration::from_secs(1);
        assert_eq!(pace.note_swarm(PART, second, PLENTY), None);
        assert_eq!(pace.note_swarm(PART, second, PLENTY), None);
        let rate = pace.note_swarm(PART, second, PLENTY).unwrap();
        assert_eq!(rate, PART as u64);
        pace.try_registry(rate);
        assert_eq!(pace.note_registry(PART, second), None);
        let verdict = pace.note_registry(PART, second).unwrap();
        assert!(matches!(verdict, Verdict::Return { .. }), "{verdict:?}");
        // It is not tried again soon.
        for _ in 0..5 {
            assert_eq!(pace.note_swarm(PART, second, PLENTY), None);
        }
        let rate = pace.note_swarm(PART, second, PLENTY).unwrap();
        pace.try_registry(rate);
        pace.note_registry(3 * PART, second);
        assert_eq!(pace.note_registry(3 * PART, second), Some(Verdict::Stay));
        assert!(!pace.is_trying());
        assert_eq!(pace.note_registry(PART, 10 * second), None);
    }

    #[test]
    fn the_last_bytes_are_waited_for() {
        let mut pace = SwarmPace::default();
        assert_eq!(pace.note_swarm(1, WINDOW, NOT_WORTH_IT), None);
        assert_eq!(pace.note_swarm(1, WINDOW, NOT_WORTH_IT + 1), Some(0));
    }
}
