//! Sources that this supernode does not reach. Finding that out may take seconds: once for all callers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Sources that are remembered.
const MAX_SOURCES: usize = 1024;
/// A failure that took this long is remembered: callers need not wait as long again.
const LONG: Duration = Duration::from_secs(2);
/// One caller finds out again after this.
const MEMORY: Duration = Duration::from_secs(10);
/// What nodes are told: to leave this supernode alone with the source, while another one reaches it.
const AVOID_AFTER_LONG: u32 = 60;
const AVOID_AFTER_SHORT: u32 = 2;

/// Under this name the supernode's own disk is remembered, which no layer of any source gets past.
pub(super) const OWN_DISK: &str = "the disk of this supernode";

#[derive(Debug, Default)]
pub(super) struct FailingSources(Mutex<HashMap<String, Failing>>);

#[derive(Debug)]
struct Failing {
    until: Instant,
    reason: String,
}

/// Why a source is not asked, and for how many seconds nodes need not ask for anything of it.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    pub(crate) reason: String,
    pub(crate) seconds: u32,
}

impl FailingSources {
    /// Whether `source` is to be asked now.
    pub(super) fn check(&self, source: &str, now: Instant) -> Result<(), Elsewhere> {
        let mut failing = self.0.lock();
        let Some(known) = failing.get_mut(source) else {
            return Ok(());
        };
        if known.until <= now {
            // This caller finds out; the others do not wait for him.
            known.until = now + MEMORY;
            return Ok(());
        }
        Err(Elsewhere {
            reason: known.reason.clone(),
            seconds: AVOID_AFTER_LONG,
        })
    }

    /// `source` was not reached within `took`.
    pub(super) fn note_unreachable(
        &self,
        source: &str,
        now: Instant,
        took: Duration,
        reason: String,
    ) -> Elsewhere {
        if took < LONG {
            return Elsewhere {
                reason,
                seconds: AVOID_AFTER_SHORT,
            };
        }
        let mut failing = self.0.lock();
        failing.retain(|_, known| known.until + MEMORY > now);
        if failing.len() < MAX_SOURCES {
            let until = now + MEMORY;
            let remembered = Failing {
                until,
                reason: reason.clone(),
            };
            failing.insert(source.to_owned(), remembered);
        }
        Elsewhere {
            reason,
            seconds: AVOID_AFTER_LONG,
        }
    }

    /// This supernode cannot write: sources need not be asked for what it cannot keep.
    pub(super) fn note_own_disk(&self, reason: String) {
        let _ = self.note_unreachable(OWN_DISK, Instant::now(), LONG, reason);
    }

    /// `source` has answered.
    pub(super) fn note_answer(&self, source: &str) {
        self.0.lock().remove(source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_waits_for_a_source_that_does_not_answer_and_one_more_after_a_while() {
        let sources = FailingSources::default();
        let (start, long) = (Instant::now(), Duration::from_secs(5));
        assert!(sources.check("a", start).is_ok());
        let told = sources.note_unreachable("a", start, long, "timeout".to_owned());
        assert_eq!(told.seconds, AVOID_AFTER_LONG);
        assert!(sources.check("a", start + MEMORY / 2).is_err());
        assert!(sources.check("b", start).is_ok());
        assert!(sources.check("a", start + MEMORY).is_ok());
        assert!(sources.check("a", start + MEMORY).is_err());
        sources.note_answer("a");
        assert!(sources.check("a", start + MEMORY).is_ok());
    }

    #[test]
    fn a_source_that_refuses_connections_is_asked_by_every_caller() {
        let sources = FailingSources::default();
        let start = Instant::now();
        let told = sources.note_unreachable("a", start, Duration::ZERO, "refused".to_owned());
        assert_eq!(told.seconds, AVOID_AFTER_SHORT);
        assert!(sources.check("a", start).is_ok());
    }
}
