//! The part that nodes and supernodes have in common: a peer listener, the swarms, the
//! store, the host's rate limits.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use flotilla_torrents::{
    ContentId, Geometry, InfoHash, PeerId, PieceMap, SignedTicket, TicketKey, TicketKeys,
};
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bans::Bans;
use crate::peer_connection::{self, Introduction, MeetError};
use crate::rate_limit::RateLimiter;
use crate::small_content::SmallContent;
use crate::spool::{Hashes, Spool};
use crate::store::{Store, StoreError, StoredLayer};
use crate::swarm::Role;
use crate::swarm_handle::SwarmHandle;
use crate::swarm_task::{Input, SwarmTask};

/// Inputs that may wait for one swarm before its connections have to.
const INPUT_QUEUE: usize = 1024;
/// Incoming connections in their handshakes at the same moment.
const MOST_HANDSHAKES: usize = 256;
/// Time that swarms have to record their pieces when the host stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

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

#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) upload: RateLimiter,
    pub(crate) download: RateLimiter,
}

/// The swarms of one host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine(pub(crate) Arc<EngineShared>);

#[derive(Debug)]
pub(crate) struct EngineShared {
    pub(crate) peer_id: PeerId,
    pub(crate) limits: Limits,
    pub(crate) bans: Bans,
    listen: SocketAddr,
    pub(crate) store: Store,
    keys: RwLock<Vec<TicketKey>>,
    swarms: Mutex<HashMap<InfoHash, Running>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct Running {
    handle: SwarmHandle,
    stop: CancellationToken,
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
        let engine = Self(Arc::new(EngineShared {
            peer_id: PeerId::from_random(rand::random()),
            limits: Limits {
                upload: RateLimiter::new(config.upload_rate),
                download: RateLimiter::new(config.download_rate),
            },
            bans: Bans::default(),
            listen: listener.local_addr()?,
            store,
            keys: RwLock::new(Vec::new()),
            swarms: Mutex::new(HashMap::new()),
            tasks: TaskTracker::new(),
            shutdown: shutdown.clone(),
        }));
        engine
            .0
            .tasks
            .spawn(accept_peers(engine.clone(), listener, shutdown));
        Ok(engine)
    }

    /// This host's name on the wire.
    pub fn peer_id(&self) -> PeerId {
        self.0.peer_id
    }

    /// Where peers connect to.
    pub fn listen_addr(&self) -> SocketAddr {
        self.0.listen
    }

    /// The layers on the disk.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Peers shunned at the moment.
    pub fn shunned(&self) -> usize {
        self.0.bans.count()
    }

    /// Accepts tickets signed with `key` from now on.
    pub fn trust_tickets_of(&self, key: TicketKey) {
        let mut keys = self.0.keys.write().unwrap_or_else(PoisonError::into_inner);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    /// Every swarm that runs here.
    pub fn swarms(&self) -> Vec<SwarmHandle> {
        self.0
            .lock_swarms()
            .values()
            .map(|running| running.handle.clone())
            .collect()
    }

    /// The swarm `swarm`, if it runs here.
    pub fn swarm(&self, swarm: &InfoHash) -> Option<SwarmHandle> {
        self.0
            .lock_swarms()
            .get(swarm)
            .map(|running| running.handle.clone())
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

    /// Keeps small content on the disk. Returns at once; without room there it is not kept.
    pub fn keep(&self, small: SmallContent, origin: &str) {
        let (engine, origin) = (self.clone(), origin.to_owned());
        self.0.tasks.spawn_blocking(move || {
            if let Err(error) = engine.write_small(&small, &origin) {
                tracing::warn!(content = %small.content(), %error, "not kept");
            }
        });
    }

    fn write_small(&self, small: &SmallContent, origin: &str) -> Result<(), StoreError> {
        let store = &self.0.store;
        let (layer, evicted) = store.layer_or_create(small.content(), small.geometry(), origin)?;
        for layer in evicted {
            self.leave(&layer.swarm());
        }
        if layer.sealed().is_none() {
            let written = layer.write_whole(small.bytes());
            written.map_err(|error| StoreError::io(&layer.data_path(), error))?;
            store.seal(&layer, small.sha256().clone());
        }
        Ok(())
    }

    /// A place for bytes that may become a layer.
    pub fn spool(&self) -> Spool {
        Spool::new(self.clone())
    }

    /// Sets aside room for spooled bytes.
    pub(crate) fn reserve_spooled(&self, bytes: u64) -> Result<(), StoreError> {
        for layer in self.0.store.reserve_spooled(bytes)? {
            self.leave(&layer.swarm());
        }
        Ok(())
    }

    /// Makes `file`, whose bytes have these `hashes`, a layer.
    pub(crate) fn adopt(
        &self,
        file: NamedTempFile,
        content: &ContentId,
        geometry: Geometry,
        origin: &str,
        hashes: Hashes,
    ) -> Result<Arc<StoredLayer>, StoreError> {
        let store = &self.0.store;
        let (layer, evicted) = store.adopt(file, content, geometry, origin, hashes)?;
        for layer in evicted {
            self.leave(&layer.swarm());
        }
        Ok(layer)
    }

    /// Leaves a swarm; its layer stays on the disk.
    pub fn leave(&self, swarm: &InfoHash) {
        if let Some(running) = self.0.lock_swarms().remove(swarm) {
            running.stop.cancel();
        }
    }

    /// Waits until every swarm has recorded its pieces after `shutdown`, or a grace period
    /// is over.
    pub async fn stopped(&self) {
        self.0.tasks.close();
        let _ = tokio::time::timeout(STOP_GRACE, self.0.tasks.wait()).await;
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
            self.0.store.check_origin(handle.layer(), origin)?;
            return Ok(handle);
        }
        let engine = self.clone();
        let (wanted, source) = (content.clone(), origin.to_owned());
        let opened = tokio::task::spawn_blocking(move || {
            engine.0.store.layer_or_create(&wanted, geometry, &source)
        });
        let (layer, evicted) = match opened.await {
            Ok(opened) => opened?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        for layer in evicted {
            self.leave(&layer.swarm());
        }
        Ok(self.0.clone().run_swarm(layer, role))
    }
}

impl EngineShared {
    fn run_swarm(self: Arc<Self>, layer: Arc<StoredLayer>, role: Role) -> SwarmHandle {
        let mut swarms = self.lock_swarms();
        let swarm = layer.swarm();
        if let Some(running) = swarms.get(&swarm) {
            return running.handle.clone();
        }
        let map = published_so_far(&layer, role);
        let (input, inputs) = mpsc::channel(INPUT_QUEUE);
        let handle = SwarmHandle::new(layer, map, input);
        let stop = self.shutdown.child_token();
        let task = SwarmTask::new(
            handle.clone(),
            Arc::clone(&self),
            role,
            inputs,
            stop.clone(),
        );
        self.tasks.spawn(task.run());
        swarms.insert(
            swarm,
            Running {
                handle: handle.clone(),
                stop,
            },
        );
        handle
    }

    /// A void swarm: nothing is kept.
    pub(crate) fn forget(&self, handle: &SwarmHandle) {
        self.lock_swarms().remove(&handle.swarm());
        if let Err(error) = self.store.remove(handle.content()) {
            tracing::error!(%error, "void layer not removed");
        }
    }

    pub(crate) fn introduction(&self, handle: &SwarmHandle) -> Introduction {
        let keys = self
            .keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Introduction {
            swarm: handle.swarm(),
            peer_id: self.peer_id,
            ticket: handle.0.ticket(),
            keys: TicketKeys(keys),
        }
    }

    fn lock_swarms(&self) -> std::sync::MutexGuard<'_, HashMap<InfoHash, Running>> {
        self.swarms.lock().unwrap_or_else(PoisonError::into_inner)
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

async fn accept_peers(engine: Engine, listener: TcpListener, shutdown: CancellationToken) {
    let handshakes = Arc::new(Semaphore::new(MOST_HANDSHAKES));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                let engine = engine.clone();
                tokio::spawn(async move {
                    if let Err(error) = welcome(&engine, stream, remote).await {
                        tracing::debug!(peer.addr = %remote, %error, "peer refused");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to come back.
                tracing::warn!(%error, "peer not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn welcome(engine: &Engine, stream: TcpStream, remote: SocketAddr) -> Result<(), MeetError> {
    let introduce = async |swarm: InfoHash, peer: PeerId| {
        if engine.0.bans.is_shunned(peer) {
            return Err(MeetError::Shunned(peer));
        }
        let handle = engine.swarm(&swarm).ok_or(MeetError::UnknownSwarm(swarm))?;
        Ok(engine.0.introduction(&handle))
    };
    let (connection, swarm) = peer_connection::answer(stream, remote, introduce).await?;
    let handle = engine.swarm(&swarm).ok_or(MeetError::UnknownSwarm(swarm))?;
    handle.send(Input::Connected(Box::new(connection))).await;
    Ok(())
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
}
