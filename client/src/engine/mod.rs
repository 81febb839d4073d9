//! The part that nodes and supernodes have in common: a peer listener, the swarms, the
//! store, the host's rate limits.

mod accept;
mod counters;
mod disk_room;
mod host;
pub(crate) mod hot_pieces;
pub(crate) mod input;
pub mod layer_reader;
mod piece_buffer;
pub(crate) mod piece_reader;
pub(crate) mod piece_storage;
pub(crate) mod running_swarm;
mod small_blobs;
mod small_queue;
pub mod spool;
pub mod swarm_handle;
mod swarms;
mod task;
mod whole_hash;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use flotilla_cluster::rate_limit::RateLimiter;
use flotilla_cluster::{SignedTicket, TicketKey};
use flotilla_torrents::{ContentId, Geometry, InfoHash, Metainfo, PeerId, PieceMap};
use parking_lot::{Mutex, RwLock};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::counters::SwarmCounters;
use self::disk_room::DiskRoom;
use self::host::{Host, Limits};
use self::piece_storage::PieceStorage;
use self::running_swarm::{RunningSwarm, SharedParts};
use self::small_queue::SmallQueue;
use self::swarm_handle::SwarmHandle;
use self::swarms::{Opened, Running, Swarms};
use self::task::{Ending, SwarmTask};
use crate::blocking::blocking;
use crate::peers::bans::Bans;
use crate::peers::open_torrent::OpenTorrent;
use crate::store::{Store, StoreError, StoredLayer};
use crate::swarm::Role;
use crate::torrent_files::TorrentStorage;

/// Inputs that may wait for one swarm before its connections have to.
const INPUT_QUEUE: usize = 1024;
/// Time that swarms have to record their pieces when the host stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// What an [`Engine`] needs to know.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Where layers are kept.
    pub data_dir: PathBuf,
    /// Bytes that the layers may take.
    pub cache_quota: u64,
    /// Limit on bytes per second sent to peers.
    pub upload_rate: Option<u64>,
    /// Limit on bytes per second received from peers.
    pub download_rate: Option<u64>,
}

/// The swarms of one host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine(Arc<EngineShared>);

#[derive(Debug)]
struct EngineShared {
    host: Arc<Host>,
    counters: Arc<SwarmCounters>,
    small_queue: SmallQueue,
    swarms: Arc<Mutex<Swarms>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Engine {
    /// Opens the store and accepts peers on `listener` until `shutdown`.
    ///
    /// # Errors
    /// The store cannot be opened, or the listener has no address.
    pub fn start(
        config: &EngineConfig,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<Self, EngineError> {
        let store = Store::open(&config.data_dir, config.cache_quota)?;
        let swarms = Arc::default();
        let host = Arc::new(Host {
            peer_id: PeerId::from_random(rand::random()),
            listen: listener.local_addr()?,
            limits: Limits {
                upload: RateLimiter::new(config.upload_rate),
                download: RateLimiter::new(config.download_rate),
            },
            bans: Bans::default(),
            store,
            hot: Arc::default(),
            swarms: Arc::clone(&swarms),
            keys: RwLock::new(Vec::new()),
            supernodes: RwLock::default(),
        });
        let engine = Self(Arc::new(EngineShared {
            host: Arc::clone(&host),
            counters: Arc::default(),
            small_queue: SmallQueue::default(),
            swarms,
            tasks: TaskTracker::new(),
            shutdown: shutdown.clone(),
        }));
        let swarms = Arc::clone(&engine.0.swarms);
        let accepting = accept::accept_peers(host, swarms, listener, shutdown);
        engine.0.tasks.spawn(accepting);
        Ok(engine)
    }

    /// This host's name on the wire.
    pub fn peer_id(&self) -> PeerId {
        self.0.host.peer_id
    }

    /// Where peers connect to.
    pub fn listen_addr(&self) -> SocketAddr {
        self.0.host.listen
    }

    /// The layers on the disk.
    pub fn store(&self) -> &Store {
        &self.0.host.store
    }

    /// Bytes that went through all swarms since the start.
    pub fn counters(&self) -> &SwarmCounters {
        &self.0.counters
    }

    /// Peers shunned at the moment.
    pub fn shunned(&self) -> usize {
        self.0.host.bans.count()
    }

    /// Accepts tickets signed with `key` from now on.
    pub fn trust_tickets_of(&self, key: TicketKey) {
        let mut keys = self.0.host.keys.write();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    /// Counts `peer` as a supernode's seeder from now on.
    pub(crate) fn note_supernode(&self, peer: PeerId) {
        self.0.host.supernodes.write().insert(peer);
    }

    /// The host's limits on what it sends and receives.
    pub(crate) fn limits(&self) -> &Limits {
        &self.0.host.limits
    }

    /// The host's limit on what it receives.
    pub fn download_limit(&self) -> RateLimiter {
        self.0.host.limits.download.clone()
    }

    /// The swarm of every layer that runs here.
    pub fn swarms(&self) -> Vec<SwarmHandle> {
        let swarms = self.0.swarms.lock();
        let running = swarms.running.values();
        running.filter_map(|r| r.swarm.as_layer()).collect()
    }

    /// The swarm `swarm` of a layer, if it runs here.
    pub fn swarm(&self, swarm: &InfoHash) -> Option<SwarmHandle> {
        let swarms = self.0.swarms.lock();
        swarms.running.get(swarm)?.swarm.as_layer()
    }

    /// Joins a swarm as a node: pieces come from the peers. Pieces of an earlier run count
    /// once the published hash agrees with the recorded one.
    ///
    /// # Errors
    /// The layer cannot be stored.
    pub async fn join(
        &self,
        content: &ContentId,
        geometry: Geometry,
        origin: &str,
    ) -> Result<SwarmHandle, EngineError> {
        self.open(content, geometry, origin, Role::Node).await
    }

    /// Opens a swarm as its origin: pieces come from the source, by
    /// [`SwarmHandle::begin_ingest`]. The pieces that an earlier run stored are published
    /// already.
    ///
    /// # Errors
    /// The layer cannot be stored.
    pub async fn create_origin(
        &self,
        content: &ContentId,
        geometry: Geometry,
        origin: &str,
        own_ticket: Option<SignedTicket>,
    ) -> Result<SwarmHandle, EngineError> {
        let handle = self.open(content, geometry, origin, Role::Origin).await?;
        if let Some(ticket) = own_ticket {
            handle.set_ticket(ticket);
        }
        Ok(handle)
    }

    /// Joins the standard swarm of a torrent, into and out of its files: peers of any make are
    /// welcome. A torrent that runs here already stays as it is.
    pub fn join_torrent(&self, storage: Arc<TorrentStorage>) -> RunningSwarm {
        let torrent = Arc::new(OpenTorrent::new(storage.torrent()));
        let swarm = torrent.info_hash;
        let mut map = PieceMap::new(storage.geometry());
        for hash in storage.torrent().pieces() {
            // As many hashes as pieces: Metainfo has checked it.
            let _ = map.push(*hash);
        }
        let storage = PieceStorage::Files(storage);
        let engine = Arc::clone(&self.0);
        engine.run_swarm(swarm, storage, Some(torrent), map, Role::Node)
    }

    /// Lets every peer into a running swarm that asks for it by the info hash of `torrent`, which is
    /// the standard torrent of its layer: without a ticket, and without learning the swarm's own
    /// name. Ends with the swarm, or with [`close_to_strangers`](Self::close_to_strangers).
    ///
    /// # Errors
    /// The swarm does not run here, is not whole, or its pieces are not those of the torrent.
    pub fn open_to_strangers(
        &self,
        handle: &SwarmHandle,
        torrent: &Metainfo,
    ) -> Result<(), OpenToStrangersError> {
        let swarm = handle.swarm();
        if !handle.status().complete {
            return Err(OpenToStrangersError::Incomplete(swarm));
        }
        if handle.geometry() != torrent.geometry() || handle.hashes_from(0) != torrent.pieces() {
            return Err(OpenToStrangersError::OtherContent(torrent.info_hash()));
        }
        let mut swarms = self.0.swarms.lock();
        let running = swarms.running.get(&swarm).and_then(|r| r.swarm.as_layer());
        if !running.is_some_and(|running| running.is_same(handle)) {
            return Err(OpenToStrangersError::NotRunning(swarm));
        }
        let torrent = Arc::new(OpenTorrent::new(torrent));
        let opened = swarms.open.entry(torrent.info_hash);
        opened.insert_entry(Opened { swarm, torrent });
        Ok(())
    }

    /// Lets no further peer in by this info hash; connected peers stay.
    pub fn close_to_strangers(&self, info_hash: &InfoHash) {
        self.0.swarms.lock().open.remove(info_hash);
    }

    /// Leaves the swarms of layers that were evicted, also for what could not be kept after all.
    fn leave_evicted(&self) {
        self.0.host.leave_evicted();
    }

    /// Leaves a swarm; its layer stays on the disk.
    pub fn leave(&self, swarm: &InfoHash) {
        let left = self.0.swarms.lock().remove(swarm);
        if let Some(running) = left {
            running.stop.cancel();
        }
    }

    /// The bytes of `layer` are damaged: no byte of it leaves any more, and its readers
    /// continue from elsewhere. Returns whether the disk let it go.
    pub(crate) async fn quarantine(
        &self,
        layer: &Arc<StoredLayer>,
        reason: &'static str,
    ) -> Result<(), StoreError> {
        let (engine, damaged) = (self.clone(), Arc::clone(layer));
        let quarantined = blocking(move || engine.0.host.store.quarantine(&damaged)).await;
        tracing::error!(content = %layer.content(), reason, "damaged layer removed");
        if let Some(swarm) = self.swarm(&layer.swarm())
            && Arc::ptr_eq(swarm.layer(), layer)
        {
            swarm.abort(reason.to_owned()).await;
        }
        quarantined
    }

    /// Cancelled when the host stops.
    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    /// Runs `task` as a part of the engine: [`stopped`](Self::stopped) waits for it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(task);
    }

    /// Waits until every swarm has recorded its pieces after `shutdown`, or a grace period
    /// is over.
    pub async fn stopped(&self) {
        self.0.tasks.close();
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, self.0.tasks.wait()).await;
    }

    async fn open(
        &self,
        content: &ContentId,
        geometry: Geometry,
        origin: &str,
        role: Role,
    ) -> Result<SwarmHandle, EngineError> {
        let swarm = InfoHash::of_swarm(content, &geometry);
        if let Some(handle) = self.swarm(&swarm) {
            self.0
                .host
                .store
                .check_origin(handle.layer().origin(), origin)?;
            return Ok(handle);
        }
        let engine = self.clone();
        let (wanted, source) = (content.clone(), origin.to_owned());
        let opened = tokio::task::spawn_blocking(move || {
            engine
                .0
                .host
                .store
                .layer_or_create(&wanted, geometry, &source)
        });
        let opened = opened.await;
        self.leave_evicted();
        let layer = match opened {
            Ok(opened) => opened?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let map = published_so_far(&layer, role);
        let storage = PieceStorage::Layer(Arc::clone(&layer));
        let running = self.0.clone().run_swarm(swarm, storage, None, map, role);
        // The name is that of a layer and its geometry: no torrent has it.
        running.as_layer().ok_or(EngineError::NameTaken(swarm))
    }
}

impl EngineShared {
    fn run_swarm(
        self: Arc<Self>,
        swarm: InfoHash,
        storage: PieceStorage,
        torrent: Option<Arc<OpenTorrent>>,
        map: PieceMap,
        role: Role,
    ) -> RunningSwarm {
        let mut swarms = self.swarms.lock();
        if let Some(running) = swarms.running.get(&swarm) {
            return running.swarm.clone();
        }
        let (input, inputs) = mpsc::channel(INPUT_QUEUE);
        let handle = RunningSwarm::new(
            swarm,
            storage,
            torrent.clone(),
            map,
            input,
            SharedParts {
                counters: Arc::clone(&self.counters),
                hot: Arc::clone(&self.host.hot),
                room: Arc::downgrade(&self.host) as Weak<dyn DiskRoom>,
            },
        );
        let stop = self.shutdown.child_token();
        let host = Arc::clone(&self.host);
        let task = SwarmTask::new(handle.clone(), host, role, inputs, stop.clone());
        self.tasks
            .spawn(Arc::clone(&self).run_task(task, handle.clone()));
        if let Some(torrent) = torrent {
            swarms.open.insert(swarm, Opened { swarm, torrent });
        }
        let running = Running {
            swarm: handle.clone(),
            stop,
        };
        swarms.running.insert(swarm, running);
        handle
    }

    async fn run_task(self: Arc<Self>, mut task: SwarmTask, handle: RunningSwarm) {
        if task.run().await == Ending::Void {
            self.remove_void(&handle);
        }
        task.close().await;
    }

    /// A void swarm: nothing is kept of a layer. A torrent's files are the user's.
    fn remove_void(self: &Arc<Self>, handle: &RunningSwarm) {
        self.swarms.lock().remove(&handle.swarm());
        let Some(layer) = handle.as_layer() else {
            return;
        };
        if let Err(error) = self.host.store.remove_later(layer.layer()) {
            tracing::error!(%error, "void layer not removed");
        }
        let engine = Arc::clone(self);
        self.tasks
            .spawn_blocking(move || engine.host.store.delete_removed());
    }
}

/// The piece map that an earlier run's records give. An origin's pieces are a prefix of the
/// layer, and its own records are the authority; a sealed layer is one whole such prefix.
/// A node's partial layer waits for the supernode's map.
fn published_so_far(layer: &StoredLayer, role: Role) -> PieceMap {
    let geometry = layer.geometry();
    let mut map = PieceMap::new(geometry);
    if role == Role::Node && layer.sealed().is_none() {
        return map;
    }
    for piece in geometry.pieces() {
        let Some(hash) = layer.hash(piece) else { break };
        if map.push(hash).is_err() {
            break;
        }
    }
    map
}

/// The engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The listener failed.
    #[error("peer listener: {0}")]
    Listener(#[from] std::io::Error),
    /// A torrent runs under the name that the layer's swarm has.
    #[error("swarm {0} is that of a torrent")]
    NameTaken(InfoHash),
}

/// A swarm cannot be opened to strangers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenToStrangersError {
    /// It does not run here any more.
    #[error("swarm {0} does not run here")]
    NotRunning(InfoHash),
    /// It is not whole and compared with its digest.
    #[error("swarm {0} is not complete")]
    Incomplete(InfoHash),
    /// Its pieces are others than those of the torrent.
    #[error("torrent {0} is that of other content")]
    OtherContent(InfoHash),
}
