//! What happens to the files of a `get`, for the program that shows it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

/// The shortest time between two reports of progress for one file.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// Where the bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Through the proxy that runs on this node, and its cache.
    Daemon,
    /// Through the swarm of the supernodes.
    Swarm,
    /// Straight from the source.
    Source,
    /// Through the swarm of a torrent.
    Torrent,
}

/// Something happened to a file. As JSON: one object whose `event` names the variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum GetEvent {
    /// It began.
    Started {
        /// Without what may be secret in it.
        url: String,
        /// Where the bytes come from at first.
        way: Way,
    },
    /// An earlier run's bytes count.
    Resumed {
        /// How many.
        bytes: u64,
    },
    /// What has arrived is discarded, and the download starts over.
    Restarted {
        /// Why.
        reason: String,
    },
    /// The source is asked again.
    Retrying {
        /// Why.
        reason: String,
        /// Pause before.
        seconds: f64,
    },
    /// From now on the source delivers, not the swarm.
    SourceSwitch {
        /// Why.
        reason: String,
        /// Verified bytes that are kept.
        bytes: u64,
    },
    /// It continues.
    Progress(Progress),
    /// The file is there.
    Completed {
        /// Its length.
        bytes: u64,
        /// Its SHA-256, when it was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
        /// Bytes from other nodes in this run.
        from_peers: u64,
        /// The part of this run's bytes that other nodes gave: 0 to 1.
        share_from_peers: f64,
        /// Since it began.
        seconds: f64,
    },
    /// It seeds.
    Seeding {
        /// The longest time, if it is limited.
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<f64>,
    },
    /// It was not had.
    Failed {
        /// Why.
        error: String,
    },
}

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes of the file, when that is known.
    pub length: Option<u64>,
    /// Bytes from other nodes in this run.
    pub from_peers: u64,
    /// Peers that are connected, supernodes among them.
    pub peers: usize,
}

/// Called at every event. It has to return soon: the download waits.
pub type Observer = Arc<dyn Fn(&Path, &GetEvent) + Send + Sync>;

/// Tells of one file.
#[derive(Clone)]
pub(crate) struct Reporter {
    file: PathBuf,
    observer: Observer,
    reported: Arc<Mutex<Option<Instant>>>,
    /// Bytes that arrived in this run, for the share of the peers.
    arrived: Arc<AtomicU64>,
    from_peers: Arc<AtomicU64>,
    began: Instant,
}

impl Reporter {
    pub(crate) fn new(file: &Path, observer: Observer) -> Self {
        Self {
            file: file.to_owned(),
            observer,
            reported: Arc::default(),
            arrived: Arc::default(),
            from_peers: Arc::default(),
            began: Instant::now(),
        }
    }

    pub(crate) fn tell(&self, event: &GetEvent) {
        (self.observer)(&self.file, event);
    }

    pub(crate) fn restarted(&self, reason: impl Into<String>) {
        self.tell(&GetEvent::Restarted {
            reason: reason.into(),
        });
    }

    /// Tells of progress, unless it did a moment ago.
    pub(crate) fn progress(&self, bytes: u64, length: Option<u64>, peers: usize) {
        let mut reported = self.reported.lock();
        if reported.is_some_and(|reported| reported.elapsed() < REPORT_INTERVAL) {
            return;
        }
        *reported = Some(Instant::now());
        drop(reported);
        self.tell(&GetEvent::Progress(Progress {
            bytes,
            length,
            from_peers: self.from_peers.load(Ordering::Relaxed),
            peers,
        }));
    }

    pub(crate) fn arrived_from_source(&self, bytes: u64) {
        self.arrived.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What a swarm has brought so far in this run.
    pub(crate) fn set_from_swarm(&self, arrived: u64, from_peers: u64) {
        self.arrived.store(arrived, Ordering::Relaxed);
        self.from_peers
            .store(from_peers.min(arrived), Ordering::Relaxed);
    }

    pub(crate) fn completed(&self, bytes: u64, digest: Option<String>) {
        let arrived = self.arrived.load(Ordering::Relaxed);
        let from_peers = self.from_peers.load(Ordering::Relaxed);
        self.tell(&GetEvent::Completed {
            bytes,
            digest,
            from_peers,
            share_from_peers: share(from_peers, arrived),
            seconds: self.began.elapsed().as_secs_f64(),
        });
    }
}

/// `part` of `whole`, to a tenth of a per mille.
pub fn share(part: u64, whole: u64) -> f64 {
    let parts = u128::from(part) * 10_000 / u128::from(whole.max(1));
    f64::from(u16::try_from(parts.min(10_000)).unwrap_or(10_000)) / 10_000.0
}
