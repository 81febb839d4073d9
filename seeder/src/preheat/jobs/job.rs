//! One job in memory.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::event_log::{EventLog, Room};
use super::record::JobRecord;
use crate::preheat::Preheat;

/// A preheat and what has become of it so far.
pub(super) struct Job {
    pub(super) record: watch::Sender<JobRecord>,
    pub(super) asked: Arc<Preheat>,
    pub(super) log: EventLog,
    pub(super) cancelled: CancellationToken,
}

impl Job {
    pub(super) fn new(record: JobRecord, asked: Preheat, room: &Arc<Room>) -> Self {
        if let Some(lent) = &record.authorization {
            asked.lend(lent.0.clone());
        }
        Self {
            record: watch::Sender::new(record),
            asked: Arc::new(asked),
            log: EventLog::new(Arc::clone(room)),
            cancelled: CancellationToken::new(),
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.record.borrow().state.is_final()
    }
}
