//! Where a torrent's peers come from: those that were named, and the trackers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flotilla_client::RunningSwarm;
use flotilla_client::peers::trackers::{TrackerError, TrackerTiers};
use flotilla_torrents::tracker_wire::{AnnounceEvent, AnnounceRequest};
use flotilla_torrents::{InfoHash, PeerId};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Peers that are remembered; the swarm connects to fewer.
const MAX_KNOWN: usize = 500;
/// Peers asked for in one announce.
const NUMWANT: u32 = 100;
/// Announces of a download that has no peer come so soon after each other, whatever the tracker
/// says, unless it names a least interval.
const HUNGRY_INTERVAL: Duration = Duration::from_secs(60);
/// Bounds on what a tracker says.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);
/// The pause after trackers that do not answer, which doubles.
const MIN_RETRY_INTERVAL: Duration = Duration::from_secs(2);
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(120);
/// The longest wait for the trackers when the end is announced.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the known peers are named to a swarm, which dials those that it may.
const REOFFER_INTERVAL: Duration = Duration::from_secs(3);

/// The peers that are known, for every task that watches them grow.
pub(crate) type KnownPeers = watch::Sender<BTreeSet<SocketAddr>>;

/// Announces to the trackers.
#[derive(Debug)]
pub(crate) struct Announcer {
    pub(crate) trackers: TrackerTiers,
    pub(crate) info_hash: InfoHash,
    pub(crate) peer_id: PeerId,
    pub(crate) port: u16,
    /// None while there is no metainfo.
    pub(crate) swarm: watch::Receiver<Option<RunningSwarm>>,
    /// The metainfo is here: what is missing will be known in a moment, and is waited for. With a
    /// magnet link only the trackers lead to the metainfo.
    pub(crate) has_metainfo: bool,
}

impl Announcer {
    /// Announces until `stop`, and then the end (BEP 3 `event`). The latest complaint of the
    /// trackers goes to `trouble`, none when one has answered.
    pub(crate) async fn run(
        mut self,
        known: KnownPeers,
        trouble: watch::Sender<Option<String>>,
        stop: CancellationToken,
    ) {
        if self.trackers.is_empty() {
            return;
        }
        if self.has_metainfo {
            let mut swarm = self.swarm.clone();
            let runs = stop.run_until_cancelled(swarm.wait_for(Option::is_some));
            if !matches!(runs.await, Some(Ok(_))) {
                return;
            }
        }
        let mut event = Some(AnnounceEvent::Started);
        let mut was_whole = self.is_whole();
        let mut retry = MIN_RETRY_INTERVAL;
        let mut announced = false;
        while !stop.is_cancelled() {
            let request = self.request(event);
            let announce = self.trackers.announce(&request);
            let Some(answer) = stop.run_until_cancelled(announce).await else {
                break;
            };
            let pause = match answer {
                Ok(response) => {
                    announced = true;
                    event = None;
                    retry = MIN_RETRY_INTERVAL;
                    trouble.send_replace(None);
                    remember(&known, response.peers);
                    let mut interval = Duration::from_secs(response.interval.into());
                    if self.is_hungry() {
                        let least = response.min_interval.map_or(HUNGRY_INTERVAL, |seconds| {
                            Duration::from_secs(seconds.into())
                        });
                        interval = interval.min(least);
                    }
                    interval.clamp(*INTERVALS.start(), *INTERVALS.end())
                }
                Err(error) => {
                    report(&error, &trouble);
                    let pause = retry;
                    retry = retry.saturating_mul(2).min(MAX_RETRY_INTERVAL);
                    pause
                }
            };
            let due = Instant::now() + pause;
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(due) => {}
                () = self.until_whole(), if !was_whole => {
                    was_whole = true;
                    event = Some(AnnounceEvent::Completed);
                }
            }
        }
        if announced {
            // BEP 3 requires the event, also when the end follows at once.
            let is_unreported =
                event == Some(AnnounceEvent::Completed) || !was_whole && self.is_whole();
            let events = [AnnounceEvent::Completed, AnnounceEvent::Stopped];
            for event in events.into_iter().skip(usize::from(!is_unreported)) {
                let request = self.request(Some(event));
                let _ =
                    tokio::time::timeout(SHUTDOWN_TIMEOUT, self.trackers.announce(&request)).await;
            }
        }
    }

    fn request(&self, event: Option<AnnounceEvent>) -> AnnounceRequest {
        let swarm = self.swarm.borrow();
        let counter = |of: fn(&RunningSwarm) -> u64| swarm.as_ref().map_or(0, of);
        AnnounceRequest {
            info_hash: self.info_hash,
            peer_id: self.peer_id,
            port: self.port,
            ip: None,
            uploaded: counter(|swarm| swarm.counters().uploaded.load(Ordering::Relaxed)),
            downloaded: counter(|swarm| swarm.counters().downloaded.load(Ordering::Relaxed)),
            // Unknown before there is a metainfo; 0 would name this a seeder.
            left: swarm.as_ref().map_or(1, missing),
            event,
            numwant: Some(if event == Some(AnnounceEvent::Stopped) {
                0
            } else {
                NUMWANT
            }),
            compact: true,
            no_peer_id: true,
            key: None,
            ticket: None,
        }
    }

    /// Whether all of the torrent is here; a few of its files are no whole, and BEP 3 has an event for
    /// the whole only.
    fn is_whole(&self) -> bool {
        let swarm = self.swarm.borrow();
        swarm.as_ref().is_some_and(is_whole)
    }

    fn is_hungry(&self) -> bool {
        let swarm = self.swarm.borrow();
        swarm.as_ref().is_none_or(|swarm| {
            let status = swarm.status();
            !status.complete && status.peers == 0
        })
    }

    /// Resolves when the swarm is there and whole.
    async fn until_whole(&self) {
        let mut swarm = self.swarm.clone();
        let running = swarm.wait_for(Option::is_some).await;
        let running = running.ok().and_then(|running| running.clone());
        let whole = match running {
            Some(running) => {
                let mut status = running.watch();
                let complete = status.wait_for(|status| status.complete).await.is_ok();
                complete && is_whole(&running)
            }
            None => false,
        };
        if !whole {
            std::future::pending::<()>().await;
        }
    }
}

fn report(error: &TrackerError, trouble: &watch::Sender<Option<String>>) {
    let error = error.to_string();
    if trouble.borrow().as_ref() != Some(&error) {
        tracing::warn!(error, "trackers gave no peers");
    }
    trouble.send_replace(Some(error));
}

fn is_whole(swarm: &RunningSwarm) -> bool {
    swarm.status().complete && missing(swarm) == 0
}

/// Bytes of the whole that are not here, wanted or not: a peer with a few of the files is no seeder.
fn missing(swarm: &RunningSwarm) -> u64 {
    let length = swarm.geometry().length();
    length.saturating_sub(swarm.held_bytes())
}

/// Adds peers as long as there is room.
pub(crate) fn remember(known: &KnownPeers, peers: impl IntoIterator<Item = SocketAddr>) {
    known.send_if_modified(|known| {
        let before = known.len();
        for peer in peers {
            if known.len() < MAX_KNOWN && peer.port() != 0 && !peer.ip().is_unspecified() {
                known.insert(peer);
            }
        }
        known.len() > before
    });
}

/// Names the known peers to the swarm: at once when some are new, and again every now and then.
pub(crate) async fn feed(
    swarm: RunningSwarm,
    mut known: watch::Receiver<BTreeSet<SocketAddr>>,
    stop: CancellationToken,
) {
    loop {
        let peers: Vec<SocketAddr> = known.borrow_and_update().iter().copied().collect();
        if !peers.is_empty() {
            swarm.add_peers(peers).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = known.changed() => {
                if changed.is_err() {
                    return stop.cancelled().await;
                }
            }
            () = tokio::time::sleep(REOFFER_INTERVAL) => {}
        }
    }
}
