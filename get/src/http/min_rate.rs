//! Whether bytes come as fast as they have to.

use std::time::Duration;

use tokio::time::Instant;

/// The least rate that is put up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRate {
    /// Bytes per second.
    pub rate: u64,
    /// The time over which the rate is measured.
    pub window: Duration,
}

/// Looks at the clock.
#[derive(Debug)]
pub(crate) struct RateWatch {
    least: Option<MinRate>,
    since: Instant,
    bytes: u64,
}

impl RateWatch {
    /// `bytes`: what is here at the beginning.
    pub(crate) fn new(least: Option<MinRate>, bytes: u64) -> Self {
        Self {
            least,
            since: Instant::now(),
            bytes,
        }
    }

    /// When to look next.
    pub(crate) async fn due(&self) {
        match self.least {
            Some(least) => tokio::time::sleep_until(self.since + least.window).await,
            None => std::future::pending().await,
        }
    }

    /// With `bytes` here now: the rate, if it was too low for a whole window.
    pub(crate) fn too_slow(&mut self, bytes: u64) -> Option<u64> {
        let least = self.least?;
        let elapsed = self.since.elapsed();
        if elapsed < least.window {
            return None;
        }
        let come = bytes.saturating_sub(self.bytes);
        let millis = elapsed.as_millis().max(1);
        let rate = u64::try_from(u128::from(come) * 1000 / millis).unwrap_or(u64::MAX);
        self.since = Instant::now();
        self.bytes = bytes;
        (rate < least.rate).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_whole_window_below_the_rate_counts() {
        let least = MinRate {
            rate: 100,
            window: Duration::from_secs(10),
        };
        let mut watch = RateWatch::new(Some(least), 0);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(watch.too_slow(0), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(watch.too_slow(1000), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(watch.too_slow(1990), Some(99));
        assert_eq!(RateWatch::new(None, 0).too_slow(0), None);
    }
}
