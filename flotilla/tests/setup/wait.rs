//! Waiting for a condition.

use std::time::{Duration, Instant};

/// Every wait ends by then.
pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Waits until `look` finds something, and gives it back. `what` is reported when it does not.
#[track_caller]
pub fn until<T>(what: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < DEADLINE, "still waiting: {}", what());
        std::thread::sleep(POLL_INTERVAL);
    }
}
