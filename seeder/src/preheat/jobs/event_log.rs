//! What becomes of each layer of a job, for those that follow it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flotilla_cluster::messages::preheats::PreheatEvent;
use parking_lot::{Mutex, MutexGuard};

/// Events kept of all jobs together, 30 MB at most. A job has one for each of its layers.
const MAX_EVENTS: usize = 100_000;

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

    pub(super) fn get(&self, index: usize) -> Option<PreheatEvent> {
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
