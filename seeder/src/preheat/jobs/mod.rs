//! Preheats that outlive their caller: what Harbor and other triggers ask for.
//!
//! A job is on the disk before its caller hears of it, and in memory for as long as it is kept.
//! [`Jobs`] runs a few at a time, in the order of their coming; those that a supernode has not
//! finished when it stops are run again by the next one in the same directory.

pub(crate) mod api;
mod event_log;
mod follower;
mod job;
mod job_files;
mod queries;
mod record;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_cluster::messages::orders::OrderedLayer;
use flotilla_cluster::messages::preheats::{PreheatEvent, PreheatRequest};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use self::event_log::Room;
use self::job::Job;
use self::job_files::JobFiles;
pub(crate) use self::record::{JobId, JobOutcome, JobRecord, JobState};
use flotilla_cluster::unix_now;

use super::orders::Orders;
use super::{NodeSelector, Preheat, PreheatError, Preheater, StepOutcome};

/// A policy of Harbor makes a job of each image of a project.
const MAX_UNFINISHED: usize = 10_000;
const MAX_FINISHED: usize = 10_000;
/// Harbor asks for 30 minutes; people ask the next morning.
const FINISHED_TTL: u64 = 24 * 3600;
/// Jobs whose layers are read at the same time; all of them together read as many layers as one.
const JOBS_AT_ONCE: usize = 4;
/// A job that takes longer has met something that will not end.
const MAX_JOB: Duration = Duration::from_secs(24 * 3600);
/// Nodes come back within this after their supernode has started anew.
const NODES_COME_BACK: Duration = Duration::from_secs(5);
/// Finished jobs whose events are kept, for those that come for them a little later.
const LOGS_KEPT: usize = 64;
/// Events that wait to be noted.
const QUEUE: usize = 64;

/// A job is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    #[error(transparent)]
    Request(#[from] PreheatError),
    #[error(
        "registry {0} is not listed: the supernode's operator does that with --preheat-registry, or with a login in the file of --registry-auth"
    )]
    NotListed(String),
    #[error("{MAX_UNFINISHED} preheat jobs are unfinished; ask again later, or cancel some")]
    Full,
    #[error("the preheat job cannot be recorded: {0}")]
    Disk(io::Error),
}

/// All jobs of a supernode. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Jobs(Arc<Shared>);

struct Shared {
    files: JobFiles,
    preheater: Preheater,
    table: Mutex<BTreeMap<JobId, Arc<Job>>>,
    /// Room for the events of all jobs.
    room: Arc<Room>,
    /// Finished jobs that still have their events, the latest last.
    logged: Mutex<VecDeque<Arc<Job>>>,
    turns: Semaphore,
    orders: Orders,
    started: Instant,
    shutdown: CancellationToken,
}

impl Jobs {
    /// The jobs in `dir`; [`resume`](Self::resume) runs those that are unfinished. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub(crate) fn open(
        dir: PathBuf,
        preheater: Preheater,
        shutdown: CancellationToken,
    ) -> io::Result<Self> {
        let (files, records) = JobFiles::open(dir)?;
        let (mut table, room) = (BTreeMap::new(), Arc::default());
        for record in records {
            match Preheat::of_request(record.request.clone()) {
                Ok(asked) => {
                    table.insert(record.id, Arc::new(Job::new(record, asked, &room)));
                }
                Err(error) => {
                    tracing::warn!(job = %record.id, %error, "preheat job dropped: its request is no longer valid");
                    files.remove(record.id)?;
                }
            }
        }
        Ok(Self(Arc::new(Shared {
            files,
            preheater,
            table: Mutex::new(table),
            room,
            logged: Mutex::default(),
            turns: Semaphore::new(JOBS_AT_ONCE),
            orders: Orders::new(),
            started: Instant::now(),
            shutdown,
        })))
    }

    pub(crate) fn preheater(&self) -> &Preheater {
        &self.0.preheater
    }

    pub(crate) fn orders(&self) -> &Orders {
        &self.0.orders
    }

    /// Cancelled when the supernode stops.
    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    /// Runs what an earlier supernode has not finished.
    pub(crate) fn resume(&self) {
        let table = self.lock().clone();
        for (id, job) in table {
            if !job.is_finished() {
                tracing::info!(job = %id, "preheat continues");
                tokio::spawn(self.clone().run(job));
            }
        }
    }

    /// Takes a job, or finds one that is unfinished and does the same: that one continues with the
    /// `authorization` that was lent last. Returns once it is on the disk.
    ///
    /// # Errors
    /// The request is wrong or not allowed, or there are too many.
    pub(crate) async fn submit(
        &self,
        request: PreheatRequest,
        authorization: Option<String>,
    ) -> Result<JobRecord, SubmitError> {
        let asked = Preheat::of_request(request.clone())?;
        if let Some(registry) = self.0.preheater.unlisted(&asked).await {
            return Err(SubmitError::NotListed(registry));
        }
        let job = {
            let mut table = self.lock();
            let mut unfinished = table.values().filter(|job| !job.is_finished());
            if let Some(same) = unfinished.find(|job| job.record.borrow().request == request) {
                if let Some(authorization) = authorization {
                    same.asked.lend(authorization);
                }
                return Ok(same.record.borrow().clone());
            }
            if table.values().filter(|job| !job.is_finished()).count() >= MAX_UNFINISHED {
                return Err(SubmitError::Full);
            }
            // No id is given twice, not even after the directory was lost.
            let next = table.last_key_value().map_or(0, |(last, _)| last.0 + 1);
            let (id, now) = (JobId(next.max(unix_now())), unix_now());
            let record = JobRecord::new(id, request, authorization, now);
            let job = Arc::new(Job::new(record, asked, &self.0.room));
            table.insert(id, Arc::clone(&job));
            job
        };
        let record = job.record.borrow().clone();
        if let Err(error) = self.save(&record).await {
            self.lock().remove(&record.id);
            return Err(SubmitError::Disk(error));
        }
        let images: Vec<&str> = job.asked.names().collect();
        let nodes = job.asked.nodes().map(tracing::field::display);
        tracing::info!(job = %record.id, ?images, nodes, "preheat");
        tokio::spawn(self.clone().run(job));
        self.forget_old().await;
        Ok(record)
    }

    /// The job once it is finished.
    pub(crate) async fn finished(&self, id: JobId) -> Option<JobRecord> {
        let mut record = self.lock().get(&id)?.record.subscribe();
        let finished = record.wait_for(|record| record.state.is_final()).await;
        finished.ok().map(|record| record.clone())
    }

    /// Ends a job; layers that have begun still arrive. Returns once that is on the disk; one that
    /// is finished stays as it is.
    pub(crate) async fn cancel(&self, id: JobId) -> Option<JobRecord> {
        let cancelled = self.lock().get(&id)?.cancelled.clone();
        cancelled.cancel();
        self.finished(id).await
    }

    async fn run(self, job: Arc<Job>) {
        let id = job.record.borrow().id;
        let (state, cause) = tokio::select! {
            biased;
            () = self.0.shutdown.cancelled() => return,
            () = job.cancelled.cancelled() => {
                (JobState::Cancelled, Some("cancelled".to_owned()))
            }
            ended = self.work(&job) => ended,
        };
        // What fails because the supernode stops is for the next one.
        if self.0.shutdown.is_cancelled() {
            return;
        }
        let mut record = job.record.borrow().clone();
        record.finish(state, cause, unix_now());
        if let Err(error) = self.save(&record).await {
            tracing::warn!(job = %id, %error, "finished preheat job not recorded: it runs again after a restart");
        }
        let (layers, bytes, cause) = (record.layers, record.bytes, record.cause.clone());
        tracing::info!(job = %id, ?state, layers, bytes, cause, "preheat ends");
        job.record.send_replace(record);
        self.keep_log(job);
        self.forget_old().await;
    }

    async fn work(&self, job: &Job) -> (JobState, Option<String>) {
        // The semaphore is never closed.
        let turn = self.0.turns.acquire().await;
        job.record.send_modify(|record| record.start(unix_now()));
        let doing = async {
            let layers = self.fetch(job).await;
            drop(turn);
            let is_here = job.record.borrow().failed == 0;
            if let Some(selector) = job.asked.nodes()
                && is_here
            {
                self.deliver(job, selector, layers).await;
            }
        };
        if tokio::time::timeout(MAX_JOB, doing).await.is_err() {
            let hours = MAX_JOB.as_secs() / 3600;
            let cause = format!("not done within {hours} hours");
            return (JobState::Failure, Some(cause));
        }
        match job.record.borrow().cause_of_failures() {
            None => (JobState::Success, None),
            cause => (JobState::Failure, cause),
        }
    }

    /// Has the supernode read every layer; those that it has.
    async fn fetch(&self, job: &Job) -> Vec<OrderedLayer> {
        let (events, mut outcomes) = mpsc::channel::<StepOutcome>(QUEUE);
        let noting = async {
            let mut layers = Vec::new();
            while let Some(outcome) = outcomes.recv().await {
                if let Some(fetched) = &outcome.fetched {
                    layers.push(OrderedLayer {
                        url: fetched.url.to_string(),
                        content: fetched.content.clone(),
                    });
                }
                job.log.push(outcome.event.clone());
                job.record.send_modify(|record| note(record, outcome));
            }
            layers
        };
        let running = async {
            self.0.preheater.run(&job.asked, &events).await;
            drop(events);
        };
        tokio::join!(running, noting).1
    }

    /// Has the chosen nodes fetch them.
    async fn deliver(&self, job: &Job, selector: &NodeSelector, layers: Vec<OrderedLayer>) {
        let nodes = self.chosen_nodes(job, selector).await;
        let mut names = job.asked.names();
        let first = names.next().unwrap_or_default();
        let image = match names.count() {
            0 => first.to_owned(),
            more => format!("{first} and {more} more"),
        };
        let outcome = |node: Option<String>, error: Option<String>| JobOutcome {
            image: image.clone(),
            digest: None,
            url: None,
            node,
            error,
        };
        if nodes.is_empty() {
            let error = format!("no node that takes preheats is called {selector}");
            let outcome = outcome(None, Some(error));
            job.record.send_modify(|record| record.add(outcome));
            return;
        }
        let id = job.record.borrow().id;
        let ended = self.0.orders.deliver(id, layers, nodes).await;
        job.record.send_modify(|record| {
            for (node, error) in ended {
                record.add(outcome(Some(node), error));
            }
        });
    }

    /// Those that were chosen before a restart, else those that are there.
    async fn chosen_nodes(&self, job: &Job, selector: &NodeSelector) -> BTreeSet<String> {
        let chosen = job.record.borrow().nodes.clone();
        if let Some(chosen) = chosen {
            return chosen;
        }
        tokio::time::sleep(NODES_COME_BACK.saturating_sub(self.0.started.elapsed())).await;
        let mut nodes = self.0.orders.called(selector);
        if nodes.is_empty() {
            tokio::time::sleep(NODES_COME_BACK).await;
            nodes = self.0.orders.called(selector);
        }
        let mut record = job.record.borrow().clone();
        record.nodes = Some(nodes.clone());
        if let Err(error) = self.save(&record).await {
            tracing::warn!(job = %record.id, %error, "chosen nodes not recorded: a restart may choose others");
        }
        job.record.send_replace(record);
        nodes
    }

    async fn save(&self, record: &JobRecord) -> io::Result<()> {
        let (files, record) = (self.0.files.clone(), record.clone());
        let saved = tokio::task::spawn_blocking(move || files.save(&record)).await;
        saved.map_err(io::Error::other)?
    }

    /// Of a job that has just finished; older ones lose theirs.
    fn keep_log(&self, job: Arc<Job>) {
        let mut logged = self.0.logged.lock();
        logged.push_back(job);
        while logged.len() > LOGS_KEPT {
            if let Some(job) = logged.pop_front() {
                job.log.clear();
            }
        }
    }

    /// Forgets finished jobs that are old, or too many.
    async fn forget_old(&self) {
        let outdated = unix_now().saturating_sub(FINISHED_TTL);
        let forgotten: Vec<JobId> = {
            let mut table = self.lock();
            let finished = table.values().filter(|job| job.is_finished());
            let surplus = finished.clone().count().saturating_sub(MAX_FINISHED);
            let old = finished.enumerate().filter_map(|(index, job)| {
                let record = job.record.borrow();
                (index < surplus || record.updated < outdated).then_some(record.id)
            });
            let old: Vec<JobId> = old.collect();
            for id in &old {
                table.remove(id);
            }
            old
        };
        if forgotten.is_empty() {
            return;
        }
        let files = self.0.files.clone();
        let removing = tokio::task::spawn_blocking(move || {
            for id in forgotten {
                if let Err(error) = files.remove(id) {
                    tracing::warn!(job = %id, %error, "file of an old preheat job not removed");
                }
            }
        });
        // It does not panic.
        let _ = removing.await;
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, BTreeMap<JobId, Arc<Job>>> {
        self.0.table.lock()
    }
}

fn note(record: &mut JobRecord, outcome: StepOutcome) {
    record.updated = unix_now();
    match outcome.event {
        PreheatEvent::Layer {
            image,
            digest,
            bytes,
        } => {
            let url = outcome.fetched.map(|fetched| fetched.url);
            record.add_layer(image, Some(digest), url, bytes);
        }
        PreheatEvent::File { url, bytes } => record.add_layer(url, None, None, bytes),
        PreheatEvent::Failed {
            image,
            digest,
            reason,
        } => record.add(JobOutcome {
            image,
            digest,
            url: None,
            node: None,
            error: Some(reason),
        }),
        PreheatEvent::Foreign { .. } | PreheatEvent::Heartbeat {} | PreheatEvent::Finished(_) => {}
    }
}
