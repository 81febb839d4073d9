//! What becomes of each layer of a job, for those that follow it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flotilla_cluster::messages::preheats::PreheatEvent;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::api::status_of;
use super::{Job, JobId, JobRecord, Jobs};

/// Events kept of all jobs together, 30 MB at most. A job has one for each of its layers.
const MAX_EVENTS: usize = 100_000;
/// A caller takes a supernode for dead that is silent for 2.5 of these.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Room for the events of all jobs.
#[derive(Debug)]
pub(super) struct Room(AtomicUsize);

impl Default for Room {
    fn default() -> Self {
        Self(AtomicUsize::new(MAX_EVENTS))
    }
}

/// The events of one job, in their order, as far as there was room.
#[derive(Debug)]
pub(super) struct EventLog {
    events: Mutex<Vec<PreheatEvent>>,
    room: Arc<Room>,
}

impl EventLog {
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self {
            events: Mutex::default(),
            room,
        }
    }

    pub(super) fn push(&self, event: PreheatEvent) {
        let taken = self
            .room
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if taken.is_ok() {
            self.lock().push(event);
        }
    }

    fn get(&self, index: usize) -> Option<PreheatEvent> {
        self.lock().get(index).cloned()
    }

    pub(super) fn clear(&self) {
        let events = std::mem::take(&mut *self.lock());
        self.room.0.fetch_add(events.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PreheatEvent>> {
        self.events.lock()
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.clear();
    }
}

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
                return PreheatEvent::Finished(status_of(record));
            }
            let changed = tokio::time::timeout_at(beat, self.record.changed());
            if !matches!(changed.await, Ok(Ok(()))) {
                return PreheatEvent::Heartbeat {};
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> PreheatEvent {
        PreheatEvent::File {
            url: "http://f.test/a".to_owned(),
            bytes: number,
        }
    }

    #[test]
    fn a_log_that_is_cleared_or_dropped_makes_room_for_others() {
        let room = Arc::new(Room(AtomicUsize::new(3)));
        let one = EventLog::new(Arc::clone(&room));
        let two = EventLog::new(Arc::clone(&room));
        for number in 0..5 {
            one.push(event(number));
        }
        two.push(event(5));
        assert_eq!((one.get(2), one.get(3)), (Some(event(2)), None));
        assert_eq!(two.get(0), None);
        one.clear();
        assert_eq!(one.get(0), None);
        two.push(event(6));
        assert_eq!(two.get(0), Some(event(6)));
        drop(two);
        assert_eq!(room.0.load(Ordering::Relaxed), 3);
    }
}
