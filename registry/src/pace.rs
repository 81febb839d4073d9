//! How slow a source may be.
//!
//! A layer takes its whole length of the quota from the first byte on, and the first byte is cheap
//! to send. So the source has to bring the layer forward. Only its own slowness counts: the time
//! spent waiting for its next bytes, over all connections to it, and not what the disk or the
//! operator's rate limit take.
//!
//! An ingest that ends for this makes nothing worse. At such a pace a piece takes minutes, and the
//! proxies have gone on from the registry themselves when one takes 15 seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt as _, stream};

/// Waiting that is judged together: a registry may be slow for a while.
const WINDOW: Duration = Duration::from_secs(10 * 60);
/// Bytes that each window brings at least: 437 bytes per second. A steady 1 kB/s passes.
const MIN_BYTES: u64 = 256 * 1024;
/// The whole has to come within this at least: 100 KB/s for 60 GB, which no source could hold for
/// ever at the pace of small layers.
const MAX_TIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// The source brings the content forward too slowly to be worth its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source sent {received} bytes in {window:?}, and at least {least} are expected")]
pub struct TooSlow {
    received: u64,
    least: u64,
    window: Duration,
}

/// The pace of one content's source.
#[derive(Clone, Debug)]
pub struct Pace {
    window: Duration,
    least: u64,
    waited: Duration,
    received: u64,
}

impl Pace {
    /// What is expected of the source of `length` bytes.
    pub fn of_length(length: u64) -> Self {
        let windows = MAX_TIME.as_secs() / WINDOW.as_secs();
        Self::at_least(MIN_BYTES.max(length / windows), WINDOW)
    }

    /// `least` bytes in each `window` of waiting.
    pub fn at_least(least: u64, window: Duration) -> Self {
        Self {
            window,
            least,
            waited: Duration::ZERO,
            received: 0,
        }
    }

    /// Notes that the next `bytes` were waited for so long.
    ///
    /// # Errors
    /// A window is over, and had too few.
    pub fn note(&mut self, waited: Duration, bytes: usize) -> Result<(), TooSlow> {
        self.waited = self.waited.saturating_add(waited);
        self.received = self.received.saturating_add(bytes as u64);
        if self.waited < self.window {
            return Ok(());
        }
        if self.received < self.least {
            return Err(TooSlow {
                received: self.received,
                least: self.least,
                window: self.window,
            });
        }
        (self.waited, self.received) = (Duration::ZERO, 0);
        Ok(())
    }
}

/// Time spent waiting for a source to send, counted while its bytes are read.
#[derive(Clone, Debug, Default)]
pub struct Waited(Arc<AtomicU64>);

impl Waited {
    /// So far.
    pub fn total(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// `bytes`, each waiting for which counts.
    pub fn count<S>(&self, bytes: S) -> impl Stream<Item = S::Item> + Send + use<S>
    where
        S: Stream + Send + Unpin,
    {
        let waited = Arc::clone(&self.0);
        stream::unfold((bytes, waited), async |(mut bytes, waited)| {
            let since = Instant::now();
            let next = bytes.next().await?;
            let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            waited.fetch_add(micros, Ordering::Relaxed);
            Some((next, (bytes, waited)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes per second, in portions `seconds` apart: how long it may go on, up to a day.
    fn lasts(length: u64, rate: usize, seconds: u64) -> Duration {
        let mut pace = Pace::of_length(length);
        let portion = usize::try_from(seconds).unwrap() * rate;
        let mut passed = Duration::ZERO;
        while passed < Duration::from_secs(24 * 3600)
            && pace.note(Duration::from_secs(seconds), portion).is_ok()
        {
            passed += Duration::from_secs(seconds);
        }
        passed
    }

    #[test]
    fn a_slow_and_steady_source_goes_on_and_a_trickle_ends() {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let (layer, model) = (500 << 20, 60 << 30);
        assert!(lasts(layer, 1000, 1) >= DAY);
        assert!(lasts(layer, 1000, 25) >= DAY, "in bursts");
        assert!(lasts(layer, 100, 1) <= WINDOW);
        assert!(lasts(u64::MAX, 1_000_000, 1) <= WINDOW);
        assert!(lasts(model, 20_000, 1) <= WINDOW);
        assert!(lasts(model, 200_000, 1) >= DAY);
    }

    #[test]
    fn waiting_for_anything_else_does_not_count() {
        let mut pace = Pace::of_length(1 << 20);
        for _ in 0..100_000 {
            assert_eq!(pace.note(Duration::ZERO, 1), Ok(()));
        }
    }
}
