//! Feeds the [`ClusterState`] and hands out what is in it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use flotilla_client::{Engine, SwarmHandle};
use flotilla_cluster::messages::node_report::NodeReport;
use flotilla_cluster::messages::swarms::{Delivery, OpenRequest, OpenResponse};
use flotilla_cluster::redacted;
use flotilla_cluster::unix_now;
use flotilla_registry::BlobUrl;
use flotilla_registry::source::Source;
use flotilla_torrents::tracker_wire::AnnounceRequest;
use flotilla_torrents::{Geometry, PeerId};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::state::cluster_state::{Announced, ClusterState, Naming, Opening, OwnSwarm, OwnTotals};
use super::state::history_file::HistoryFile;
use super::views::rows::Rows;

/// How often the supernode looks at itself.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// A supernode that is killed forgets the traffic of this time at most.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// However many look, the rows are made only so often.
pub(super) const ROWS_LIVE: Duration = Duration::from_millis(500);

/// The statistics of one supernode. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Statistics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cluster: Mutex<ClusterState>,
    rows: Mutex<Option<Arc<Rows>>>,
    /// The supernode's own name on the wire.
    peer_id: PeerId,
}

impl Statistics {
    pub(crate) fn new(now: Instant, peer_id: PeerId) -> Self {
        Self(Arc::new(Inner {
            cluster: Mutex::new(ClusterState::new(now)),
            rows: Mutex::new(None),
            peer_id,
        }))
    }

    /// Continues the traffic of the last week where an earlier supernode stopped. Blocks on the
    /// disk.
    pub(crate) fn recall(&self, file: &HistoryFile) {
        if let Some((past, ago)) = file.load(unix_now()) {
            self.with(|cluster| cluster.history.recall(Instant::now(), past, ago));
        }
    }

    async fn save(&self, file: &HistoryFile) {
        let past = self.with(|cluster| cluster.history.remember(Instant::now()));
        let file = file.clone();
        let saving = tokio::task::spawn_blocking(move || file.save(unix_now(), past));
        if let Ok(Err(error)) = saving.await {
            tracing::warn!(%error, "traffic history not saved: a restart would lose it");
        }
    }

    pub(super) fn peer_id(&self) -> PeerId {
        self.0.peer_id
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&mut ClusterState) -> T) -> T {
        look(&mut self.0.cluster.lock())
    }

    /// All rows, as they were at most half a second ago. Takes some ten milliseconds for ten
    /// thousand nodes.
    pub(super) fn rows(&self, now: Instant) -> Arc<Rows> {
        let mut rows = self.0.rows.lock();
        match rows.as_ref() {
            Some(rows) if now.saturating_duration_since(rows.taken) < ROWS_LIVE => Arc::clone(rows),
            _ => {
                let made = Arc::new(self.with(|cluster| Rows::of(cluster, now)));
                *rows = Some(Arc::clone(&made));
                made
            }
        }
    }

    /// A node has asked for content and is let in.
    pub(crate) fn note_open(&self, request: &OpenRequest, answer: &OpenResponse) {
        let OpenResponse::Open(descriptor) = answer else {
            return;
        };
        let whole = descriptor.delivery == Delivery::Whole;
        let opening = Opening {
            swarm: descriptor.swarm,
            naming: Naming {
                name: &name_of(&request.url),
                images: &request.images,
                content: &descriptor.content,
                geometry: Geometry::new(descriptor.length, descriptor.piece_length).ok(),
            },
            peer: request.peer_id,
            node: &request.node,
            whole: whole.then_some(descriptor.length),
            is_inline: descriptor.inline.is_some(),
        };
        self.with(|cluster| cluster.handle_opening(Instant::now(), &opening));
    }

    /// The supernode itself has asked for content, before anybody else.
    pub(crate) fn note_brought(&self, request: &OpenRequest, handle: &SwarmHandle) {
        let naming = Naming {
            name: &name_of(&request.url),
            images: &request.images,
            content: handle.content(),
            geometry: Some(handle.geometry()),
        };
        self.with(|cluster| cluster.handle_naming(handle.swarm(), &naming));
    }

    /// A member has announced itself.
    pub(crate) fn note_announce(
        &self,
        source: IpAddr,
        request: &AnnounceRequest,
        report: Option<&[u8]>,
    ) {
        let announced = Announced {
            swarm: request.info_hash,
            peer: request.peer_id,
            address: SocketAddr::new(request.ip.unwrap_or(source), request.port),
            left: request.left,
            uploaded: request.uploaded,
            stopped: request.is_stopped(),
            report: report.and_then(NodeReport::from_header),
        };
        self.with(|cluster| cluster.handle_announce(Instant::now(), announced));
    }
}

/// Looks at the supernode's own swarms every second, until `shutdown`, and saves its traffic.
pub(crate) async fn watch_engine(
    statistics: Statistics,
    engine: Engine,
    source: Source,
    file: HistoryFile,
    shutdown: CancellationToken,
) {
    let mut saved = Instant::now();
    let mut ticks = tokio::time::interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let counters = source.counters();
        let own = OwnTotals {
            source_requests: counters.requests.load(Ordering::Relaxed),
            source_bytes: counters.bytes.load(Ordering::Relaxed),
            uploaded: engine.counters().uploaded.load(Ordering::Relaxed),
            cache: engine.store().bytes(),
            cache_quota: engine.store().quota(),
            shunned: u32::try_from(engine.shunned()).unwrap_or(u32::MAX),
        };
        let swarms = engine.swarms();
        let swarms = swarms.iter().map(|handle| {
            let status = handle.status();
            OwnSwarm {
                swarm: handle.swarm(),
                content: handle.content().clone(),
                geometry: handle.geometry(),
                published: status.known,
                complete: status.complete,
                ingested: handle.counters().from_registry.load(Ordering::Relaxed),
                uploaded: handle.counters().uploaded.load(Ordering::Relaxed),
            }
        });
        let swarms = swarms.collect();
        statistics.with(|cluster| cluster.handle_own(Instant::now(), own, swarms));
        if saved.elapsed() >= SAVE_INTERVAL {
            statistics.save(&file).await;
            saved = Instant::now();
        }
    }
    statistics.save(&file).await;
}

/// What operators know content by: registry and repository of a blob, else the URL without what may
/// be secret in it.
pub(crate) fn name_of(url: &str) -> String {
    let Ok(url) = Url::parse(url) else {
        return String::new();
    };
    BlobUrl::of(&url).map_or_else(|| redacted(&url), |blob| blob.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_named_by_its_repository_or_its_url_without_secrets() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (url, name) in [
            (
                &format!("http://reg.test:5000/v2/team/app/blobs/{digest}"),
                "reg.test:5000/team/app",
            ),
            (
                &format!("https://reg.test/v2/a/blobs/{digest}"),
                "reg.test/a",
            ),
            (
                &format!("https://reg.test/below/v2/a/blobs/{digest}"),
                "reg.test/below/a",
            ),
            (
                &"https://me:secret@files.test/a.iso?sig=secret".to_owned(),
                "https://files.test/a.iso",
            ),
            (&"not a URL".to_owned(), ""),
        ] {
            assert_eq!(name_of(url), name);
        }
    }
}
