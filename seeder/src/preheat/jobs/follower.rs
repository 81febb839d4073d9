//! What those see that follow a job.

use std::sync::Arc;
use std::time::Duration;

use flotilla_cluster::messages::preheats::PreheatEvent;
use tokio::sync::watch;

use super::Jobs;
use super::job::Job;
use super::record::{JobId, JobRecord};

/// A caller takes a supernode for dead that is silent for 2.5 of these.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// A job, seen by one that follows it.
pub(super) struct Follower {
    job: Arc<Job>,
    record: watch::Receiver<JobRecord>,
    /// Events that it has had.
    seen: usize,
}

impl Jobs {
    /// Follows a job from its beginning in this run of the supernode.
    pub(super) fn follow(&self, id: JobId) -> Option<Follower> {
        let job = Arc::clone(self.lock().get(&id)?);
        Some(Follower {
            record: job.record.subscribe(),
            job,
            seen: 0,
        })
    }
}

impl Follower {
    /// The next event; a heartbeat when there is nothing new. The last one is
    /// [`Finished`](PreheatEvent::Finished). Cancel safe.
    pub(super) async fn next(&mut self) -> PreheatEvent {
        let beat = tokio::time::Instant::now() + HEARTBEAT_INTERVAL;
        loop {
            // Before the log, which grows no more once the job has ended.
            let ended = {
                let record = self.record.borrow_and_update();
                record.state.is_final().then(|| record.clone())
            };
            if let Some(event) = self.job.log.get(self.seen) {
                self.seen += 1;
                return event;
            }
            if let Some(record) = ended {
                return PreheatEvent::Finished(record.status());
            }
            let changed = tokio::time::timeout_at(beat, self.record.changed());
            if !matches!(changed.await, Ok(Ok(()))) {
                return PreheatEvent::Heartbeat {};
            }
        }
    }
}
