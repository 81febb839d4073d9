//! Looking at jobs, which never keeps those waiting that work on them.

use std::sync::Arc;

use super::Jobs;
use super::job::Job;
use super::record::{JobId, JobRecord};
use crate::preheat::Preheat;

impl Jobs {
    /// What is known of a job.
    pub(crate) fn get(&self, id: JobId) -> Option<JobRecord> {
        self.with_job(id, |record, _| record.clone())
    }

    /// The jobs that are kept, the latest first, so many at most.
    pub(crate) fn latest(&self, most: usize) -> Vec<JobRecord> {
        let latest: Vec<Arc<Job>> = self.lock().values().rev().take(most).cloned().collect();
        let records = latest.iter().map(|job| job.record.borrow().clone());
        records.collect()
    }

    /// What `look` makes of a job.
    pub(crate) fn with_job<T>(
        &self,
        id: JobId,
        look: impl FnOnce(&JobRecord, &Arc<Preheat>) -> T,
    ) -> Option<T> {
        let job = Arc::clone(self.lock().get(&id)?);
        Some(look(&job.record.borrow(), &job.asked))
    }

    /// What `look` makes of each job, the oldest first. The table is locked for no longer than it
    /// takes to count its jobs: `look` may take its time.
    pub(crate) fn with_jobs<T>(&self, look: impl Fn(&JobRecord, &Arc<Preheat>) -> T) -> Vec<T> {
        let jobs: Vec<Arc<Job>> = self.lock().values().cloned().collect();
        let seen = jobs
            .iter()
            .map(|job| look(&job.record.borrow(), &job.asked));
        seen.collect()
    }
}
