//! The task of one swarm: it drives the [`Swarm`] with tokio.
//!
//! **Tasks.** One task owns the state machine, and nothing else touches it. Two tasks for each connection
//! (`peers/io.rs`) and one for each web seed read and write. Dials, hashing, the disk and the last check
//! run on tasks of their own. All of them report by [`Input`]; readers and the session of a node send it
//! too. After each batch of inputs the task drains what the state machine wants sent and done.
//!
//! **Lifecycle.** [`SwarmTask::run`] ends when the swarm is left, when the host stops, or when the swarm is
//! void: its content cannot be had, or its pieces cannot be stored. It reports which by [`Ending`]. The
//! engine then drops a void swarm with its layer, before [`SwarmTask::close`] ends the connections and
//! records the pieces. A layer is complete when all pieces are here, the supernode has sealed the
//! piece map, and the whole was compared with its digest; a torrent, when all wanted pieces are here.
//!
//! **Locks.** The task takes those of the handle (piece map, status, origins) and of the layer for single
//! reads and writes. It holds none of them across an `await`, and no two at once.

mod connections;
mod pieces;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_torrents::peer_wire::Message;
use flotilla_torrents::{Digest, PeerId, PieceIndex};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::host::Host;
use crate::engine::input::Input;
use crate::engine::piece_buffer::PieceBuffer;
use crate::engine::piece_storage::PieceStorage;
use crate::engine::running_swarm::{RunningSwarm, SwarmState, SwarmStatus};
use crate::engine::whole_hash::WholeHash;
use crate::peers::extensions::PeerExtensions;
use crate::peers::io::Outgoing;
use crate::store::Lease;
use crate::swarm::{
    BlockOutcome, DisconnectReason, Event, PeerKey, Role, Swarm, SwarmConfig, Transmit,
};

/// An address that failed is not dialled again before this; among strangers the pause doubles with
/// each failure, since trackers name the dead for hours.
const REDIAL_INTERVAL: Duration = Duration::from_secs(2);
/// Pause before a peer is dialled again with which there was nothing to exchange.
const SEEDER_REDIAL_INTERVAL: Duration = Duration::from_secs(600);
/// Written pieces become durable at the latest after this.
const SYNC_INTERVAL: Duration = Duration::from_secs(2);

struct Connected {
    peer_id: PeerId,
    /// None of a web seed.
    remote: Option<SocketAddr>,
    dialled: bool,
    is_supernode: bool,
    outgoing: mpsc::Sender<Outgoing>,
    closing: CancellationToken,
    /// Of a peer that came without a ticket, in the name of a torrent.
    extensions: Option<PeerExtensions>,
}

/// An address that is left alone for a while. It is forgotten when the pause has passed twice.
struct Redial {
    not_before: Instant,
    pause: Duration,
}

/// Why a swarm's task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The swarm was left, or the host stops.
    Stopped,
    /// Its content cannot be had: nothing of it is to be kept.
    Void,
}

pub(crate) struct SwarmTask {
    handle: RunningSwarm,
    storage: PieceStorage,
    host: Arc<Host>,
    swarm: Swarm,
    role: Role,
    input: mpsc::Receiver<Input>,
    peers: HashMap<PeerKey, Connected>,
    buffers: HashMap<PieceIndex, PieceBuffer>,
    /// Of a layer that arrives from peers.
    whole_hash: Option<Arc<WholeHash>>,
    dialling: HashSet<SocketAddr>,
    redials: HashMap<SocketAddr, Redial>,
    next_key: u64,
    synced: Instant,
    next_exchange: Instant,
    verifying: bool,
    is_void: bool,
    sealed: Option<Digest>,
    /// Held while pieces arrive or leave, so that the layer is not evicted under them.
    lease: Option<Lease>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Never returns without a `wake`.
async fn sleep_until(wake: Option<tokio::time::Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

impl SwarmTask {
    pub(crate) fn new(
        handle: RunningSwarm,
        host: Arc<Host>,
        role: Role,
        input: mpsc::Receiver<Input>,
        shutdown: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        let storage = handle.0.storage.clone();
        let mut swarm = Swarm::new(
            SwarmConfig::default(),
            role,
            handle.geometry(),
            storage.held(),
            rand::random(),
            now,
        )
        .wanting(&storage.wanted());
        swarm.handle_hashes_known(now, handle.status().known);
        let sealed = storage.sealed();
        let lease = storage.lease();
        let arriving = match &storage {
            PieceStorage::Layer(layer) if role == Role::Node && sealed.is_none() => Some(layer),
            _ => None,
        };
        let whole_hash = arriving.map(|layer| {
            let (swarm, hot) = (handle.swarm(), Arc::clone(&handle.0.hot));
            Arc::new(WholeHash::new(Arc::clone(layer), swarm, hot))
        });
        Self {
            handle,
            storage,
            host,
            swarm,
            role,
            input,
            peers: HashMap::new(),
            buffers: HashMap::new(),
            whole_hash,
            dialling: HashSet::new(),
            redials: HashMap::new(),
            next_key: 0,
            synced: now,
            next_exchange: now,
            verifying: false,
            is_void: false,
            sealed,
            lease,
            tasks: TaskTracker::new(),
            shutdown,
        }
    }

    /// Runs until the swarm is left or void; then it has to be [closed](Self::close).
    pub(crate) async fn run(&mut self) -> Ending {
        loop {
            self.drain_outputs();
            self.sync_when_due();
            self.exchange_peers();
            self.hold_lease();
            let wake = self.next_wake();
            tokio::select! {
                () = self.shutdown.cancelled() => return Ending::Stopped,
                input = self.input.recv() => {
                    let Some(input) = input else { return Ending::Stopped };
                    self.handle(input);
                    // Whatever else waits: one look at the outputs for all of it.
                    for _ in 0..64 {
                        if self.is_void {
                            return Ending::Void;
                        }
                        let Ok(input) = self.input.try_recv() else { break };
                        self.handle(input);
                    }
                }
                () = sleep_until(wake) => {
                    self.swarm.handle_timeout(Instant::now());
                }
            }
            if self.is_void {
                return Ending::Void;
            }
        }
    }

    /// Ends the connections and records the pieces.
    pub(crate) async fn close(mut self) {
        for peer in self.peers.values() {
            peer.closing.cancel();
        }
        self.peers.clear();
        self.handle.0.hot.forget(self.handle.swarm());
        self.tasks.close();
        let storage = self.storage.clone();
        let _ = tokio::task::spawn_blocking(move || storage.sync()).await;
    }

    /// When there is something to do without an input; never for a swarm that is idle.
    fn next_wake(&self) -> Option<tokio::time::Instant> {
        let has_unsynced = self.storage.unsynced_bytes() > 0;
        let due = [
            self.swarm.poll_timeout(),
            has_unsynced.then(|| self.synced + SYNC_INTERVAL),
            self.has_exchange().then_some(self.next_exchange),
        ];
        let first = due.into_iter().flatten().min();
        first.map(tokio::time::Instant::from_std)
    }

    fn handle(&mut self, input: Input) {
        let now = Instant::now();
        match input {
            Input::Message(key, Message::Piece { index, begin, data }) => {
                self.handle_block(now, key, index, begin, data);
            }
            Input::Message(key, Message::Extended { id, payload }) => {
                self.handle_extended(now, key, id, &payload);
            }
            Input::Message(key, message) => {
                if matches!(message, Message::Have(_) | Message::Bitfield(_)) {
                    self.handle.progressed();
                }
                self.swarm.handle_message(now, key, &message);
            }
            Input::BlockSent(key, block) => {
                let bytes = u64::from(block.length);
                let counters = self.handle.counters();
                counters.count(|counters| &counters.uploaded, bytes);
                self.swarm.handle_block_sent(now, key, block);
            }
            Input::Connected(connection) => self.connected(now, *connection),
            Input::Closed { peer, misbehaved } => {
                if misbehaved {
                    self.shun(peer);
                }
                self.disconnect(now, peer);
            }
            Input::DialFailed(remote, error) => {
                tracing::debug!(peer.addr = %remote, %error, "peer not reached");
                self.dialling.remove(&remote);
                self.dial_later(now, remote, REDIAL_INTERVAL);
            }
            Input::PieceChecked(piece, check) => self.piece_checked(now, piece, check),
            Input::PieceLost(piece, is_repairable) => self.piece_lost(now, piece, is_repairable),
            Input::Published(piece) => {
                self.swarm.handle_piece_stored(now, piece);
                let known = piece.get() + 1;
                self.update(|status| {
                    status.known = known;
                    status.held = status.held.max(known);
                });
            }
            Input::HashesKnown(known) => {
                self.swarm.handle_hashes_known(now, known);
                self.update(|status| status.known = known);
            }
            Input::Sealed(sha256) => {
                self.sealed = Some(sha256.clone());
                self.update(|status| status.state = SwarmState::Sealed(sha256));
                self.finish_when_whole();
            }
            Input::Verified(outcome) => self.verified(outcome),
            Input::Abort(reason) => self.abort(reason),
            Input::Peers(peers) => self.dial(now, peers),
            Input::WebSeed(web_seed) => self.add_web_seed(now, *web_seed),
            Input::Reader(reader, next) => self.swarm.handle_reader(now, reader, next),
        }
    }

    fn handle_block(&mut self, now: Instant, key: PeerKey, index: u32, begin: u32, data: Bytes) {
        let geometry = self.handle.geometry();
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let Some(block) = geometry.block(index, begin, length) else {
            self.shun(key);
            return self.disconnect(now, key);
        };
        match self.swarm.handle_block(now, key, block) {
            BlockOutcome::Keep => {
                self.handle.progressed();
                self.count_received(key, u64::from(length));
                let sender = self.sender(key);
                let traces = &self.handle.0.traces;
                let buffer = self.buffers.entry(block.piece).or_insert_with(|| {
                    let size = geometry.piece_size(block.piece);
                    PieceBuffer::new(traces.begin(block.piece, size, sender))
                });
                buffer.arrival.goes_on(sender);
                buffer.add(begin, data);
            }
            BlockOutcome::Discard => {
                let counters = self.handle.counters();
                counters.count(|counters| &counters.wasted, u64::from(length));
            }
        }
    }

    /// What logs call it.
    fn name(&self) -> String {
        match &self.storage {
            PieceStorage::Layer(layer) => layer.content().to_string(),
            PieceStorage::Files(files) => files.torrent().info_hash().to_string(),
        }
    }

    fn abort(&mut self, reason: String) {
        tracing::warn!(content = %self.name(), reason, "swarm void");
        self.update(|status| status.state = SwarmState::Void(reason));
        self.is_void = true;
        self.shutdown.cancel();
    }

    fn update(&self, change: impl FnOnce(&mut SwarmStatus)) {
        self.handle.0.status.send_modify(change);
    }

    fn drain_outputs(&mut self) {
        let now = Instant::now();
        loop {
            while let Some(event) = self.swarm.poll_event() {
                match event {
                    Event::PieceReceived(piece) => self.check(piece),
                    Event::Disconnect(key, reason) => {
                        tracing::debug!(peer = key.0, ?reason, "peer disconnected");
                        if matches!(
                            reason,
                            DisconnectReason::CorruptPiece | DisconnectReason::Misbehaved(_)
                        ) {
                            self.shun(key);
                        }
                        let remote = self.peers.get(&key).and_then(|peer| peer.remote);
                        self.disconnect(now, key);
                        if let (DisconnectReason::NothingToExchange, Some(remote)) =
                            (reason, remote)
                        {
                            self.dial_later(now, remote, SEEDER_REDIAL_INTERVAL);
                        }
                    }
                }
            }
            let Some(transmit) = self.swarm.poll_transmit(now) else {
                return;
            };
            let (key, outgoing) = match transmit {
                Transmit::Message(key, message) => (key, Outgoing::Message(message)),
                Transmit::Block(key, block) => (key, Outgoing::Block(block)),
            };
            self.transmit(now, key, outgoing);
        }
    }

    fn sync_when_due(&mut self) {
        if self.synced.elapsed() < SYNC_INTERVAL || self.storage.unsynced_bytes() == 0 {
            return;
        }
        self.synced = Instant::now();
        let (storage, content) = (self.storage.clone(), self.name());
        self.tasks.spawn_blocking(move || {
            if let Err(error) = storage.sync() {
                tracing::error!(%error, content, "pieces not recorded");
            }
        });
    }

    fn hold_lease(&mut self) {
        let busy = !self.handle.status().complete || self.swarm.is_uploading();
        match (&self.lease, busy) {
            (None, true) => self.lease = self.storage.lease(),
            (Some(_), false) => {
                self.lease = None;
                self.handle.0.hot.forget(self.handle.swarm());
            }
            _ => {}
        }
    }
}
