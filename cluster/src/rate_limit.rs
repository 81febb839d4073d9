//! Rates in bytes per second that a whole host keeps to.
//!
//! On `governor`, with its measured traps closed: one cell is 1 KiB (a cell per byte is
//! wrong above 100 MB/s), the burst holds every request that is made, and waiters queue
//! fairly in equal slices (its own waiters starve each other).

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultDirectRateLimiter, Quota};
use tokio::sync::Mutex;

/// Bytes in one of governor's cells.
const CELL: u64 = 1024;
/// Waiters take turns in slices of this size.
const SLICE: usize = 64 * 1024;
/// The least burst that keeps the rate exact on a timer of 1 ms (measured: 4 MiB at
/// 600 MB/s), but never more than half a second's worth.
const BURST: u64 = 4 * 1024 * 1024;

/// A rate limit, shared by everything that has to keep to it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RateLimiter(Option<Arc<Fair>>);

#[derive(Debug)]
struct Fair {
    /// Bytes per second.
    rate: u64,
    cells: DefaultDirectRateLimiter,
    turn: Mutex<()>,
}

impl RateLimiter {
    /// `rate`: bytes per second; `None` or 0: no limit.
    pub fn new(rate: Option<u64>) -> Self {
        let Some(rate) = rate.filter(|rate| *rate > 0) else {
            return Self(None);
        };
        let per_second = non_zero(rate / CELL);
        let burst = non_zero(BURST.min(rate / 2).max(SLICE as u64) / CELL);
        let cells =
            DefaultDirectRateLimiter::direct(Quota::per_second(per_second).allow_burst(burst));
        // The first burst is not free: a host that starts a hundred downloads a minute
        // would get it a hundred times.
        let _ = cells.check_n(burst);
        Self(Some(Arc::new(Fair {
            rate,
            cells,
            turn: Mutex::new(()),
        })))
    }

    /// Bytes per second; none: no limit.
    pub fn rate(&self) -> Option<u64> {
        self.0.as_ref().map(|fair| fair.rate)
    }

    /// Waits until `bytes` may pass. Waiters are served in the order they came, slice by
    /// slice. Cancel safe: what was not waited for is not counted.
    pub async fn acquire(&self, bytes: usize) {
        let Some(fair) = &self.0 else { return };
        let mut left = bytes;
        while left > 0 {
            let slice = left.min(SLICE);
            left -= slice;
            let _turn = fair.turn.lock().await;
            // The burst holds a slice, so there is always capacity for it.
            let _ = fair
                .cells
                .until_n_ready(non_zero((slice as u64).div_ceil(CELL)))
                .await;
        }
    }
}

fn non_zero(cells: u64) -> NonZeroU32 {
    NonZeroU32::new(u32::try_from(cells).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN)
}
