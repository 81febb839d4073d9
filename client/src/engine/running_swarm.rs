//! What the rest of the host sees of any swarm: its state, its counters, its input.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use flotilla_cluster::SignedTicket;
use flotilla_cluster::trace::PieceTraces;
use flotilla_torrents::{Digest, Geometry, InfoHash, PeerId, PieceIndex, PieceMap};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};

use crate::engine::counters::SwarmCounters;
use crate::engine::disk_room::DiskRoom;
use crate::engine::hot_pieces::HotPieces;
use crate::engine::input::Input;
use crate::engine::piece_reader::PieceReader;
use crate::engine::piece_storage::PieceStorage;
use crate::peers::open_torrent::OpenTorrent;
use crate::peers::web_seed::WebSeed;

/// Peers whose share of a download is counted; a swarm has at most 300 connections at a time.
const MAX_ORIGINS: usize = 512;

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

/// What watchers of a swarm see at each change.
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

/// Where a swarm's bytes came from, beyond what the counters tell.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// By peer; of the first [`MAX_ORIGINS`] that sent.
    pub(super) by_peer: HashMap<PeerId, u64>,
    /// A supernode has heard of them.
    pub(super) reported: bool,
    pub(super) registry_reason: Option<String>,
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
    pub(crate) hot: Arc<HotPieces>,
    pub(crate) ticket: RwLock<Option<SignedTicket>>,
    pub(crate) input: mpsc::Sender<Input>,
    /// The swarm's host, which has the swarms.
    pub(super) room: Weak<dyn DiskRoom>,
    started: Instant,
    /// Milliseconds after `started`.
    last_progress: AtomicU64,
    /// Of a void swarm: the first piece that was published wrong, when that is known.
    pub(super) first_wrong: OnceLock<PieceIndex>,
    /// Of a void swarm: only this host cannot bring it.
    pub(super) is_elsewhere: AtomicBool,
    pub(super) supernode_alive: AtomicBool,
    pub(super) ingesting: AtomicBool,
    pub(super) next_reader: AtomicU64,
    pub(super) origins: Mutex<Origins>,
    /// Traces of requests, which list the pieces that arrive.
    pub(crate) traces: PieceTraces,
}

/// A swarm on this host, whatever it brings: a layer, or the files of a torrent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RunningSwarm(pub(crate) Arc<Shared>);

/// What the swarms of a host have in common.
pub(crate) struct SharedParts {
    pub(crate) counters: Arc<SwarmCounters>,
    pub(crate) hot: Arc<HotPieces>,
    pub(crate) room: Weak<dyn DiskRoom>,
}

impl RunningSwarm {
    pub(crate) fn new(
        swarm: InfoHash,
        storage: PieceStorage,
        torrent: Option<Arc<OpenTorrent>>,
        map: PieceMap,
        input: mpsc::Sender<Input>,
        host: SharedParts,
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
            counters: SwarmCounters::within(host.counters),
            hot: host.hot,
            ticket: RwLock::new(None),
            input,
            room: host.room,
            started: Instant::now(),
            last_progress: AtomicU64::new(0),
            first_wrong: OnceLock::new(),
            is_elsewhere: AtomicBool::new(false),
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

    /// Sees every change.
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
    pub async fn abort(&self, reason: String) {
        self.send(Input::Abort(reason)).await;
    }

    /// The content is wrong from piece `first_wrong` on: who has read beyond its beginning has wrong
    /// bytes, and who has not may have all before it.
    pub async fn abort_from(&self, first_wrong: PieceIndex, reason: String) {
        let _ = self.0.first_wrong.set(first_wrong);
        self.abort(reason).await;
    }

    /// This host cannot bring the content, another one may.
    pub async fn abort_here(&self, reason: String) {
        self.0.is_elsewhere.store(true, Ordering::Relaxed);
        self.abort(reason).await;
    }

    /// Whether another host may bring what this one has given up.
    pub fn is_elsewhere(&self) -> bool {
        self.0.is_elsewhere.load(Ordering::Relaxed)
    }

    /// The first piece that was published wrong, of a void swarm of which that is known.
    pub fn first_wrong(&self) -> Option<PieceIndex> {
        self.0.first_wrong.get().copied()
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

    /// What gives its pieces away.
    pub(crate) fn pieces(&self) -> PieceReader {
        PieceReader {
            storage: self.0.storage.clone(),
            swarm: self.0.swarm,
            hot: Arc::clone(&self.0.hot),
        }
    }

    /// Returns once the swarm does not run here any more.
    pub async fn closed(&self) {
        self.0.input.closed().await;
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
