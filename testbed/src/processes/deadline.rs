//! Waiting for a condition, with a deadline that names what was waited for.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Polls `condition` until it yields a value.
///
/// # Errors
/// The condition's own error at once, or after `deadline` one that names `what`.
pub fn wait_until<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if started.elapsed() > deadline {
            bail!("{what}: not within {deadline:?}");
        }
        thread::sleep(POLL_INTERVAL);
    }
}
