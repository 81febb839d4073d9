//! What the rest of the host sees of a swarm: its state, its counters, its input.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_cluster::SignedTicket;
use flotilla_cluster::trace::{PieceTraces, Waiting};
use flotilla_torrents::{
    ContentId, Digest, Geometry, InfoHash, PeerId, PieceHash, PieceIndex, PieceMap,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};

use crate::engine::layer_reader::LayerReader;
use crate::engine::piece_storage::PieceStorage;
use crate::engine::task::Input;
use crate::peers::open_torrent::OpenTorrent;
use crate::peers::web_seed::WebSeed;
use crate::store::StoredLayer;

/// No supernode and no progress for this long: nobody will bring the missing pieces.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(1);
/// The supernode lives, yet nothing moves although pieces are published: go elsewhere.
const STALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Peers whose share of a download is counted; a swarm has at most 300 connections at a time.
const MAX_ORIGINS: usize = 512;
/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 255;
/// All published pieces are here and the supernode waits for the source: the source would
/// not answer this node faster, so be patient.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(15);

/// How far a swarm is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwarmState {
    /// The piece map grows, or the whole was not compared with its digest yet; a torrent, whose
    /// pieces are all there is to compare, stays so.
    Growing,
    /// The whole matches its digest; its SHA-256.
    Sealed(Digest),
    /// The whole cannot be had this way; nothing is kept.
    Void(String),
}

/// What watchers of a swarm are told at each change.
#[derive(Clone, Debug)]
pub struct SwarmStatus {
    /// Pieces with a published hash.
    pub known: u32,
    /// Pieces held.
    pub held: u32,
    /// Peers connected, web seeds included.
    pub peers: usize,
    /// How far it is.
    pub state: SwarmState,
    /// The whole, or what is wanted of a torrent, is held here, compared with its digest (a torrent's pieces with their hashes) and
    /// recorded so on the disk.
    pub complete: bool,
}

/// Bytes that went through one swarm on this host, or through all of them.
#[derive(Debug, Default)]
pub struct SwarmCounters {
    /// Verified bytes from peers (the supernode is one of them).
    pub downloaded: AtomicU64,
    /// Bytes of blocks sent to peers.
    pub uploaded: AtomicU64,
    /// Bytes of blocks that were of use, before their pieces were verified.
    pub received: AtomicU64,
    /// Those of them that came from supernodes.
    pub from_supernodes: AtomicU64,
    /// Bytes received that were of no use: duplicates and corrupt pieces.
    pub wasted: AtomicU64,
    /// Bytes taken from the source: at a supernode those of the first copy, at a node those that
    /// the swarm did not bring.
    pub from_registry: AtomicU64,
    /// Those of all swarms since the program started.
    host: Option<Arc<SwarmCounters>>,
}

impl SwarmCounters {
    /// The counters of one swarm; what they count counts for the host as well.
    fn within(host: Arc<Self>) -> Self {
        Self {
            host: Some(host),
            ..Self::default()
        }
    }

    pub(crate) fn count(&self, counter: fn(&Self) -> &AtomicU64, bytes: u64) {
        counter(self).fetch_add(bytes, Ordering::Relaxed);
        if let Some(host) = &self.host {
            counter(host).fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// Where a swarm's bytes came from, beyond what the counters tell.
#[derive(Debug, Default)]
struct Origins {
    /// By peer; of the first [`MAX_ORIGINS`] that sent.
    by_peer: HashMap<PeerId, u64>,
    /// A supernode has heard of them.
    reported: bool,
    registry_reason: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) geometry: Geometry,
    pub(crate) swarm: InfoHash,
    pub(crate) storage: PieceStorage,
    /// What a swarm needs to know that speaks standard BitTorrent under its own name.
    pub(crate) torrent: Option<Arc<OpenTorrent>>,
    pub(crate) map: Mutex<PieceMap>,
    pub(crate) status: watch::Sender<SwarmStatus>,
    pub(crate) counters: SwarmCounters,
    pub(crate) ticket: RwLock<Option<SignedTicket>>,
    pub(crate) input: mpsc::Sender<Input>,
    started: Instant,
    /// Milliseconds after `started`.
    last_progress: AtomicU64,
    supernode_alive: AtomicBool,
    ingesting: AtomicBool,
    next_reader: AtomicU64,
    origins: Mutex<Origins>,
    /// Requests that are told of pieces as they arrive.
    pub(crate) traces: PieceTraces,
}

/// A swarm on this host, whatever it brings: a layer, or the files of a torrent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RunningSwarm(pub(crate) Arc<Shared>);

impl RunningSwarm {
    pub(crate) fn new(
        swarm: InfoHash,
        storage: PieceStorage,
        torrent: Option<Arc<OpenTorrent>>,
        map: PieceMap,
        input: mpsc::Sender<Input>,
        host: Arc<SwarmCounters>,
    ) -> Self {
        let status = SwarmStatus {
            known: map.known(),
            held: storage.held().count(),
            peers: 0,
            state: storage
                .sealed()
                .map_or(SwarmState::Growing, SwarmState::Sealed),
            complete: storage.is_complete(),
        };
        Self(Arc::new(Shared {
            geometry: storage.geometry(),
            swarm,
            storage,
            torrent,
            map: Mutex::new(map),
            status: watch::Sender::new(status),
            counters: SwarmCounters::within(host),
            ticket: RwLock::new(None),
            input,
            started: Instant::now(),
            last_progress: AtomicU64::new(0),
            supernode_alive: AtomicBool::new(true),
            ingesting: AtomicBool::new(false),
            next_reader: AtomicU64::new(0),
            origins: Mutex::default(),
            traces: PieceTraces::default(),
        }))
    }

    /// The cut into pieces.
    pub fn geometry(&self) -> Geometry {
        self.0.geometry
    }

    /// The name of the swarm on the wire; that of a torrent is its info hash.
    pub fn swarm(&self) -> InfoHash {
        self.0.swarm
    }

    /// The bytes that went through.
    pub fn counters(&self) -> &SwarmCounters {
        &self.0.counters
    }

    /// The present status.
    pub fn status(&self) -> SwarmStatus {
        self.0.status.borrow().clone()
    }

    /// Told at every change.
    pub fn watch(&self) -> watch::Receiver<SwarmStatus> {
        self.0.status.subscribe()
    }

    /// Bytes of the pieces held.
    pub fn held_bytes(&self) -> u64 {
        let geometry = self.0.geometry;
        let pieces = u64::from(self.0.status.borrow().held);
        let all_long = pieces.saturating_mul(geometry.piece_length().into());
        // The last piece is the one that may be shorter.
        let last = geometry.pieces().next_back();
        let shorter = last
            .filter(|last| self.0.storage.has(*last))
            .map_or(0, |last| {
                geometry.piece_length() - geometry.piece_size(last)
            });
        all_long
            .saturating_sub(shorter.into())
            .min(geometry.length())
    }

    /// The content cannot be delivered by the swarm.
    pub async fn void(&self, reason: String) {
        self.send(Input::Void(reason)).await;
    }

    /// Peers to connect to.
    pub async fn add_peers(&self, peers: Vec<SocketAddr>) {
        self.send(Input::Peers(peers)).await;
    }

    /// A web server that has the content (BEP 19).
    pub async fn add_web_seed(&self, web_seed: WebSeed) {
        self.send(Input::WebSeed(Box::new(web_seed))).await;
    }

    /// Time since anything happened in the swarm that brings it forward.
    pub fn idle_for(&self) -> Duration {
        let last = self.0.last_progress.load(Ordering::Relaxed);
        Duration::from_millis(self.0.millis().saturating_sub(last))
    }

    /// Whether the swarm does not run here any more.
    pub fn is_closed(&self) -> bool {
        self.0.input.is_closed()
    }

    /// The swarm as that of a layer, if it is one.
    pub(crate) fn as_layer(&self) -> Option<SwarmHandle> {
        match &self.0.storage {
            PieceStorage::Layer(layer) => Some(SwarmHandle {
                swarm: self.clone(),
                layer: Arc::clone(layer),
            }),
            PieceStorage::Files(_) => None,
        }
    }

    pub(crate) fn progressed(&self) {
        self.0
            .last_progress
            .store(self.0.millis(), Ordering::Relaxed);
    }

    pub(crate) async fn send(&self, input: Input) {
        let _ = self.0.input.send(input).await;
    }
}

/// The swarm of a layer on this host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SwarmHandle {
    swarm: RunningSwarm,
    layer: Arc<StoredLayer>,
}

/// A layer's swarm is a swarm.
impl Deref for SwarmHandle {
    type Target = RunningSwarm;

    fn deref(&self) -> &RunningSwarm {
        &self.swarm
    }
}

impl SwarmHandle {
    /// What the swarm delivers.
    pub fn content(&self) -> &ContentId {
        self.layer.content()
    }

    /// The layer on the disk.
    pub fn layer(&self) -> &Arc<StoredLayer> {
        &self.layer
    }

    /// The published hashes from piece `first` on.
    pub fn hashes_from(&self, first: u32) -> Vec<PieceHash> {
        self.swarm.0.lock_map().hashes_from(first).to_vec()
    }

    /// A copy of the piece map.
    pub fn piece_map(&self) -> PieceMap {
        self.swarm.0.lock_map().clone()
    }

    /// Tells `request`, if it is traced, of the pieces that arrive while what is returned lives.
    pub(crate) fn trace_pieces(&self, request: tracing::Span) -> Option<Arc<Waiting>> {
        self.swarm.0.traces.wait(request)
    }

    /// Notes bytes that the source delivered in the swarm's place.
    pub fn note_from_registry(&self, bytes: u64) {
        let counters = &self.swarm.0.counters;
        counters.count(|counters| &counters.from_registry, bytes);
    }

    /// Notes why the source has to deliver.
    pub fn note_registry_reason(&self, reason: &str) {
        let reason = reason.chars().take(MAX_REASON).collect();
        self.swarm.0.origins.lock().registry_reason = Some(reason);
    }

    /// Why the source had to deliver, the last time.
    pub(crate) fn registry_reason(&self) -> Option<String> {
        self.swarm.0.origins.lock().registry_reason.clone()
    }

    /// Whether a supernode has heard what was moved here.
    pub(crate) fn is_reported(&self) -> bool {
        self.swarm.0.origins.lock().reported
    }

    pub(crate) fn note_reported(&self) {
        self.swarm.0.origins.lock().reported = true;
    }

    /// Who sent most, and how many bytes each.
    pub(crate) fn served_by(&self, most: usize) -> Vec<(PeerId, u64)> {
        let origins = self.swarm.0.origins.lock();
        let mut by_peer: Vec<_> = origins.by_peer.iter().map(|(p, b)| (*p, *b)).collect();
        drop(origins);
        by_peer.sort_unstable_by_key(|(peer, bytes)| (std::cmp::Reverse(*bytes), *peer));
        by_peer.truncate(most);
        by_peer
    }

    /// Returns once all pieces of `range` are published: from then on its bytes depend on peers,
    /// no longer on how far the source is. Never, if they will not be. Cancel safe.
    pub fn published(
        &self,
        range: &std::ops::Range<u64>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let last = range.end.checked_sub(1);
        let last = last.and_then(|last| self.geometry().piece_at(last));
        let mut status = self.watch();
        async move {
            let Some(last) = last else { return };
            let published = status.wait_for(|status| status.complete || status.known > last.get());
            if published.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Verified bytes of `range`, in order, as they come.
    pub fn read(&self, range: std::ops::Range<u64>) -> LayerReader {
        LayerReader::new(self.clone(), range)
    }

    /// Adds hashes as published by the supernode; `first` is the index of the first one.
    /// Hashes that are known already have to agree.
    ///
    /// # Errors
    /// The hashes leave a gap, exceed the geometry or contradict what was published before.
    pub async fn publish_hashes(&self, first: u32, hashes: Vec<PieceHash>) -> Result<(), String> {
        let known = {
            let mut map = self.swarm.0.lock_map();
            for (index, hash) in (first..).zip(hashes) {
                let Some(piece) = self.swarm.0.geometry.piece(index) else {
                    return Err(format!("piece {index} is outside the geometry"));
                };
                let stored = self.layer.hash(piece);
                if self.layer.has(piece) && stored != Some(hash) {
                    return Err(format!("piece {index} on the disk has another hash"));
                }
                match map.hash(piece) {
                    Some(known) if known == hash => {}
                    Some(_) => {
                        return Err(format!("piece {index} was published with another hash"));
                    }
                    None if index == map.known() => {
                        map.push(hash).map_err(|e| e.to_string())?;
                    }
                    None => return Err(format!("piece {index} leaves a gap")),
                }
            }
            map.known()
        };
        self.progressed();
        self.send(Input::HashesKnown(known)).await;
        Ok(())
    }

    /// The whole was compared with its digest at the supernode.
    pub async fn sealed(&self, sha256: Digest) {
        self.send(Input::Sealed(sha256)).await;
    }

    /// Shows `ticket` to peers from now on.
    pub fn set_ticket(&self, ticket: SignedTicket) {
        *self.swarm.0.ticket.write() = Some(ticket);
    }

    /// Says whether a supernode follows this swarm.
    pub fn set_supernode_alive(&self, alive: bool) {
        self.swarm.0.supernode_alive.store(alive, Ordering::Relaxed);
    }

    /// Whether a supernode follows this swarm.
    pub fn is_supernode_alive(&self) -> bool {
        self.swarm.0.supernode_alive.load(Ordering::Relaxed)
    }

    /// Whether `other` is this swarm in this run, not only of the same content.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.swarm.0, &other.swarm.0)
    }

    /// Why the missing pieces will not come, if that is so.
    pub fn stalled(&self) -> Option<&'static str> {
        let status = self.status();
        let idle = self.idle_for();
        if status.complete {
            return None;
        }
        if self.is_closed() {
            return Some("the swarm has ended");
        }
        if !self.is_supernode_alive() {
            return (idle > ABANDON_TIMEOUT).then_some("no supernode, and no peer brings pieces");
        }
        if status.held >= status.known {
            return (idle > SOURCE_TIMEOUT).then_some("the supernode waits for the source");
        }
        (idle > STALL_TIMEOUT).then_some("no peer brings pieces")
    }

    /// Bytes held from the beginning on without a gap.
    pub fn held_prefix(&self) -> u64 {
        let geometry = self.geometry();
        let held = self.layer.held();
        let missing = geometry
            .piece(0)
            .and_then(|first| held.first_missing_from(first));
        missing.map_or(geometry.length(), |piece| geometry.piece_offset(piece))
    }

    /// The right to publish this swarm's pieces, which one ingest at a time has.
    pub fn begin_ingest(&self) -> Option<OriginSwarm> {
        let taken = self.swarm.0.ingesting.swap(true, Ordering::AcqRel);
        (!taken).then(|| OriginSwarm(self.clone()))
    }

    pub(crate) fn reader_number(&self) -> u64 {
        self.swarm.0.next_reader.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells the picker where a reader is. Lost when the swarm is very busy: it is a hint.
    pub(crate) fn reader_at(&self, reader: u64, next: Option<PieceIndex>) {
        let _ = self.swarm.0.input.try_send(Input::Reader(reader, next));
    }
}

impl Shared {
    pub(crate) fn lock_map(&self) -> parking_lot::MutexGuard<'_, PieceMap> {
        self.map.lock()
    }

    pub(crate) fn ticket(&self) -> Option<SignedTicket> {
        self.ticket.read().clone()
    }

    /// Counts bytes of a peer.
    pub(crate) fn note_served(&self, peer: PeerId, bytes: u64) {
        let by_peer = &mut self.origins.lock().by_peer;
        if by_peer.len() < MAX_ORIGINS || by_peer.contains_key(&peer) {
            let sent = by_peer.entry(peer).or_default();
            *sent = sent.saturating_add(bytes);
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The right to publish a swarm's pieces: they come from the source, in order.
#[derive(Debug)]
pub struct OriginSwarm(SwarmHandle);

impl Drop for OriginSwarm {
    fn drop(&mut self) {
        self.0.swarm.0.ingesting.store(false, Ordering::Release);
    }
}

impl OriginSwarm {
    /// The swarm itself.
    pub fn handle(&self) -> &SwarmHandle {
        &self.0
    }

    /// Pieces that are on the disk, hashed and published.
    pub fn published(&self) -> u32 {
        self.0.swarm.0.lock_map().known()
    }

    /// Hashes, stores and publishes the next piece; `data` is exactly that piece.
    ///
    /// # Errors
    /// `data` has another size than the next piece, or the disk refused.
    pub async fn publish(&self, data: Bytes) -> std::io::Result<()> {
        let shared = &self.0.swarm.0;
        let index = shared.lock_map().known();
        let piece = shared
            .geometry
            .piece(index)
            .filter(|piece| usize::try_from(shared.geometry.piece_size(*piece)) == Ok(data.len()));
        let piece = piece.ok_or_else(|| {
            let bytes = data.len();
            std::io::Error::other(format!("{bytes} bytes are not piece {index} of the layer"))
        })?;
        let layer = Arc::clone(self.0.layer());
        let size = data.len() as u64;
        let hash = tokio::task::spawn_blocking(move || {
            let hash = PieceHash::of(&data);
            layer.write_piece(piece, hash, &data).map(|()| hash)
        })
        .await??;
        shared
            .lock_map()
            .push(hash)
            .map_err(std::io::Error::other)?;
        self.0.note_from_registry(size);
        self.0.progressed();
        self.0.send(Input::Published(piece)).await;
        Ok(())
    }

    /// The whole matches its digest. `sha256` is the SHA-256 of all bytes.
    pub async fn seal(&self, sha256: Digest) {
        self.0.send(Input::Sealed(sha256)).await;
    }

    /// The content is not what its digest says, or cannot be had: nothing is kept.
    pub async fn void(&self, reason: String) {
        self.0.void(reason).await;
    }
}
