//! Torrents of any make: [`download()`] into files, [`seed()`] out of them, among stock clients.
//!
//! Each runs an [`Engine`] of its own for one torrent, finds peers by the caller's addresses and
//! by the trackers, and stays until it is done or stopped.

mod download;
mod peer_finder;
mod seed;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use flotilla_torrents::InfoHash;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::download::{
    DownloadError, DownloadOptions, Downloaded, Output, Phase, Progress, TorrentSource, download,
};
pub use self::seed::{SeedError, SeedOptions, Seeding, seed};
use flotilla_client::RunningSwarm;
use flotilla_client::peers::trackers::TrackerTiers;
use flotilla_client::{Engine, EngineConfig, EngineError};

use self::peer_finder::Announcer;

/// How a torrent's swarm is taken part in.
///
/// # Defaults
/// Any address and a port of the system's choice, no limits, no peer beside what the torrent names.
#[derive(Clone, Debug)]
pub struct SwarmOptions {
    /// Where peers connect to.
    pub peer_listen: SocketAddr,
    /// Limit on bytes per second sent.
    pub upload_rate: Option<u64>,
    /// Limit on bytes per second received.
    pub download_rate: Option<u64>,
    /// Trackers beside those of the torrent, in tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Peers beside those that the trackers name.
    pub peers: Vec<SocketAddr>,
    /// Web seeds beside those of the torrent (BEP 19).
    pub web_seeds: Vec<String>,
}

impl Default for SwarmOptions {
    fn default() -> Self {
        Self {
            peer_listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            upload_rate: None,
            download_rate: None,
            trackers: Vec::new(),
            peers: Vec::new(),
            web_seeds: Vec::new(),
        }
    }
}

/// A torrent cannot be taken part in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParticipationError {
    /// The address for peers is not to be had.
    #[error("peer address {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// There is no room for the engine's own files.
    #[error("temporary directory: {0}")]
    Scratch(std::io::Error),
    /// The engine cannot start.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// An engine for one torrent, with the task that finds its peers.
#[derive(Debug)]
struct Participation {
    engine: Engine,
    known: watch::Sender<BTreeSet<SocketAddr>>,
    swarm: watch::Sender<Option<RunningSwarm>>,
    trouble: watch::Receiver<Option<String>>,
    announcing: JoinHandle<()>,
    stop: CancellationToken,
    /// Dropped when no more of it is wanted.
    _stop_when_dropped: DropGuard,
    /// The engine's store, in which nothing is kept.
    _scratch: tempfile::TempDir,
}

impl Participation {
    /// Listens, and asks the trackers: at once for a magnet link, otherwise once the swarm runs.
    async fn begin(
        options: &SwarmOptions,
        info_hash: InfoHash,
        tiers: Vec<Vec<String>>,
        peers: &[SocketAddr],
        has_metainfo: bool,
    ) -> Result<Self, ParticipationError> {
        let address = options.peer_listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ParticipationError::Listen { address, source })?;
        let scratch = tempfile::Builder::new()
            .prefix("flotilla-")
            .tempdir()
            .map_err(ParticipationError::Scratch)?;
        let stop = CancellationToken::new();
        let config = EngineConfig {
            data_dir: scratch.path().to_owned(),
            cache_quota: 0,
            upload_rate: options.upload_rate,
            download_rate: options.download_rate,
        };
        let engine = Engine::start(&config, listener, stop.clone())?;
        let known = watch::Sender::new(BTreeSet::new());
        peer_finder::remember(&known, options.peers.iter().chain(peers).copied());
        let swarm = watch::Sender::new(None);
        let (troubled, trouble) = watch::channel(None);
        let announcer = Announcer {
            trackers: TrackerTiers::new(&tiers),
            info_hash,
            peer_id: engine.peer_id(),
            port: engine.listen_addr().port(),
            swarm: swarm.subscribe(),
            has_metainfo,
        };
        let announcing = tokio::spawn(announcer.run(known.clone(), troubled, stop.clone()));
        Ok(Self {
            engine,
            known,
            swarm,
            trouble,
            announcing,
            _stop_when_dropped: stop.clone().drop_guard(),
            stop,
            _scratch: scratch,
        })
    }

    /// The swarm runs: from now on it gets the peers, and trackers get its progress.
    fn run(&self, swarm: &RunningSwarm) {
        self.swarm.send_replace(Some(swarm.clone()));
        let feed = peer_finder::feed(swarm.clone(), self.known.subscribe(), self.stop.clone());
        tokio::spawn(feed);
    }

    /// Tells the trackers, and waits until everything is recorded.
    async fn end(self) {
        self.stop.cancel();
        let (_, _) = tokio::join!(self.engine.stopped(), self.announcing);
    }
}

/// How long a download of `length` bytes stays when it is complete; it ends with what comes first.
async fn stay(swarm: &RunningSwarm, length: u64, time: Option<Duration>, ratio: Option<f64>) {
    let reached = async {
        let Some(ratio) = ratio else {
            return std::future::pending().await;
        };
        let uploaded = &swarm.counters().uploaded;
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        while (uploaded.load(std::sync::atomic::Ordering::Relaxed) as f64) < ratio * length as f64 {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    match (time, ratio) {
        (None, None) => {}
        (Some(time), _) => {
            let _ = tokio::time::timeout(time, reached).await;
        }
        (None, Some(_)) => reached.await,
    }
}

/// How often counters are looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
