//! Copies the body of an upload into a spool while it passes, without holding it up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use flotilla_client::{Spool, StoreError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::body::{Passing, ProxyBody, inspected};
use crate::marks::{Mark, set_mark};
use crate::stats::ProxyStats;

/// Bytes of all uploads that wait for the disk. A disk that is further behind than this is slower
/// than the uploads: one of them is not kept.
const MAX_WAITING: usize = 64 * 1024 * 1024;
/// Parts written in one go, away from the reactor.
const PARTS_AT_ONCE: usize = 64;

/// Bytes that wait for the disk, of all uploads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    fn enter(&self, bytes: usize) -> bool {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let has_room = before.saturating_add(bytes) <= MAX_WAITING;
        if !has_room {
            self.leave(bytes);
        }
        has_room
    }

    fn leave(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A spool that may still be written to; none once keeping was given up.
#[derive(Debug)]
pub(crate) enum Kept {
    Here(Spool),
    Soon(JoinHandle<Option<Spool>>),
}

impl Kept {
    /// The spool, as soon as everything before is written.
    pub(crate) async fn written(self) -> Option<Spool> {
        match self {
            Self::Here(spool) => Some(spool),
            Self::Soon(writing) => writing.await.ok().flatten(),
        }
    }

    /// The spool without what follows the first `length` bytes.
    pub(crate) fn cut_to(self, length: u64) -> Self {
        Self::Soon(tokio::spawn(async move {
            let mut spool = self.written().await?;
            spool.truncate(length);
            Some(spool)
        }))
    }
}

/// What is known of a copy while it is made.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<ProgressShared>);

#[derive(Debug)]
struct ProgressShared {
    stats: Arc<ProxyStats>,
    copied: AtomicU64,
    is_given_up: AtomicBool,
}

impl Progress {
    fn new(stats: Arc<ProxyStats>) -> Self {
        Self(Arc::new(ProgressShared {
            stats,
            copied: AtomicU64::new(0),
            is_given_up: AtomicBool::new(false),
        }))
    }

    /// Bytes that have passed; none once copying was given up.
    pub(crate) fn copied(&self) -> Option<u64> {
        let is_given_up = self.0.is_given_up.load(Ordering::Acquire);
        (!is_given_up).then(|| self.0.copied.load(Ordering::Acquire))
    }

    fn give_up(&self, mark: Mark, reason: &str) {
        if !self.0.is_given_up.swap(true, Ordering::AcqRel) {
            set_mark!(self.0.stats, mark, reason);
        }
    }
}

/// Where a body is copied to.
#[derive(Debug)]
pub(crate) struct Tee {
    parts: Option<mpsc::UnboundedSender<Part>>,
    backlog: Backlog,
    progress: Progress,
}

/// Counts as backlog until it is dropped.
#[derive(Debug)]
struct Part {
    bytes: Bytes,
    backlog: Backlog,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.backlog.leave(self.bytes.len());
    }
}

impl Tee {
    /// Appends to `kept`.
    pub(crate) fn new(
        kept: Kept,
        backlog: Backlog,
        stats: Arc<ProxyStats>,
    ) -> (Self, Progress, Kept) {
        let progress = Progress::new(stats);
        // Bounded by the backlog.
        let (parts, received) = mpsc::unbounded_channel();
        let writing = tokio::spawn(write(kept, received, progress.clone()));
        let tee = Self {
            parts: Some(parts),
            backlog,
            progress: progress.clone(),
        };
        (tee, progress, Kept::Soon(writing))
    }

    /// The body that is copied as it passes.
    pub(crate) fn of_body(mut self, body: ProxyBody) -> ProxyBody {
        inspected(body, move |passing| {
            if let Passing::Frame { frame, .. } = passing
                && let Some(bytes) = frame.data_ref()
            {
                self.copy(bytes);
            }
        })
    }

    fn copy(&mut self, bytes: &Bytes) {
        let Some(parts) = &self.parts else { return };
        if !self.backlog.enter(bytes.len()) {
            let reason = "too many bytes wait for the disk";
            self.progress.give_up(Mark::UploadsBacklogged, reason);
            self.parts = None;
            return;
        }
        let part = Part {
            bytes: bytes.clone(),
            backlog: self.backlog.clone(),
        };
        if parts.send(part).is_err() {
            self.parts = None;
            return;
        }
        let copied = &self.progress.0.copied;
        copied.fetch_add(bytes.len() as u64, Ordering::AcqRel);
    }
}

/// Writes what comes until the body is over.
async fn write(
    kept: Kept,
    mut received: mpsc::UnboundedReceiver<Part>,
    progress: Progress,
) -> Option<Spool> {
    let Some(mut spool) = kept.written().await else {
        progress.give_up(Mark::UploadNotKept, "the part before is not kept");
        return None;
    };
    let mut parts = Vec::with_capacity(PARTS_AT_ONCE);
    while received.recv_many(&mut parts, PARTS_AT_ONCE).await > 0 {
        let batch = std::mem::take(&mut parts);
        let written = tokio::task::spawn_blocking(move || {
            let mut batch = batch.iter();
            batch.try_for_each(|part| spool.append(&part.bytes))?;
            Ok::<_, StoreError>(spool)
        });
        spool = match written.await {
            Ok(Ok(spool)) => spool,
            Ok(Err(error)) => {
                progress.give_up(Mark::UploadNotKept, &error.to_string());
                return None;
            }
            Err(_) => return None,
        };
    }
    progress.copied().map(|_| spool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_than_the_disk_takes_is_not_kept() {
        let stats = Arc::new(ProxyStats::default());
        let backlog = Backlog::default();
        let before = Kept::Soon(tokio::spawn(std::future::pending()));
        let (mut tee, progress, _kept) = Tee::new(before, backlog, Arc::clone(&stats));
        let part = Bytes::from(vec![0; MAX_WAITING / 4]);
        for _ in 0..4 {
            tee.copy(&part);
        }
        assert_eq!(progress.copied(), Some(MAX_WAITING as u64));
        assert_eq!(stats.marked(Mark::UploadsBacklogged), 0);
        for _ in 0..2 {
            tee.copy(&Bytes::from_static(b"x"));
        }
        assert_eq!(progress.copied(), None);
        assert_eq!(stats.marked(Mark::UploadsBacklogged), 1);
    }
}
