//! What the handlers of the page, its API and the metrics share.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::observer::Statistics;
use super::views::job_rows::JobList;

/// Streams at the same time.
pub(super) const MAX_STREAMS: usize = 64;

/// What they share.
pub(crate) struct Web {
    pub(crate) statistics: Statistics,
    pub(crate) jobs: JobList,
    pub(crate) access: Access,
    pub(crate) events: Events,
}

/// The streams of one supernode.
pub(crate) struct Events {
    pub(super) free: Arc<Semaphore>,
    pub(super) shutdown: CancellationToken,
}

impl Events {
    pub(crate) fn new(shutdown: CancellationToken) -> Self {
        Self {
            free: Arc::new(Semaphore::new(MAX_STREAMS)),
            shutdown,
        }
    }
}
