//! When a download ends before it is complete.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::GetError;

/// The caller's signal and deadline. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    signal: CancellationToken,
    deadline: Option<Instant>,
}

impl Stop {
    pub(crate) fn new(signal: CancellationToken, timeout: Option<Duration>) -> Self {
        Self {
            signal,
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        }
    }

    /// Waits for it; says which one it was. Cancel safe.
    pub(crate) async fn reached(&self) -> GetError {
        let overdue = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.signal.cancelled() => GetError::Interrupted,
            () = overdue => GetError::TimedOut,
        }
    }

    /// Runs `work` until then.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, GetError> {
        tokio::select! {
            done = work => Ok(done),
            error = self.reached() => Err(error),
        }
    }
}
