//! The connections of one swarm: which peers it dials, accepts and drops.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_cluster::trace::PieceSender;
use flotilla_torrents::PeerId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Connected, REDIAL_INTERVAL, Redial, SwarmTask};
use crate::engine::input::Input;
use crate::peers::bans::Bans;
use crate::peers::connection as peer_connection;
use crate::peers::connection::{HandshakeError, LocalIdentity, PeerConnection};
use crate::peers::extensions::{PeerExtensions, Reaction};
use crate::peers::io as peer_io;
use crate::peers::io::Outgoing;
use crate::peers::priority as peer_priority;
use crate::peers::web_seed::WebSeed;
use crate::swarm::PeerKey;

/// Outgoing messages and blocks that may wait for one connection. A peer that does not
/// read that many haves is as good as gone.
const OUTGOING_QUEUE: usize = 8192;
/// Connections that this host opens per swarm. Simulated: 40 neighbours bring the makespan
/// within 3 % of the bound; twenty-node clusters are fully connected.
const MAX_DIALS: usize = 40;
/// Connections per swarm, incoming ones included.
const MAX_PEERS: usize = 200;
/// Connections of strangers that a protected swarm has beside those.
const MAX_STRANGERS: usize = 100;
/// The longest pause before an address is dialled again.
const MAX_REDIAL_INTERVAL: Duration = Duration::from_secs(240);
/// How often peers are checked for a due peer exchange.
const EXCHANGE_INTERVAL: Duration = Duration::from_secs(1);

impl SwarmTask {
    pub(super) fn connected(&mut self, now: Instant, connection: PeerConnection) {
        if connection.dialled {
            self.dialling.remove(&connection.remote);
        }
        if !self.has_room_for(&connection) || !self.wins_over_twin(now, &connection) {
            return;
        }
        self.next_key += 1;
        let key = PeerKey(self.next_key);
        let PeerConnection {
            stream,
            remote,
            peer_id,
            traits,
            dialled,
            decoder,
            received,
            torrent,
        } = connection;
        tracing::debug!(peer.addr = %remote, peer.id = %peer_id, dialled, "peer connected");
        let (outgoing, to_write) = mpsc::channel(OUTGOING_QUEUE);
        let closing = CancellationToken::new();
        let (read_half, write_half) = stream.into_split();
        let input = self.handle.0.input.clone();
        let limits = &self.host.limits;
        let reader = peer_io::read_messages(
            key,
            read_half,
            decoder,
            received,
            limits.download.clone(),
            input.clone(),
        );
        let writer = peer_io::write_messages(
            key,
            write_half,
            to_write,
            self.handle.pieces(),
            limits.upload.clone(),
            input,
        );
        self.tasks
            .spawn(closing.clone().run_until_cancelled_owned(reader));
        self.tasks
            .spawn(closing.clone().run_until_cancelled_owned(writer));
        self.peers.insert(
            key,
            Connected {
                peer_id,
                remote: Some(remote),
                dialled,
                is_supernode: self.host.is_supernode(peer_id),
                outgoing,
                closing,
                extensions: torrent
                    .map(|torrent| PeerExtensions::new(torrent, dialled.then_some(remote), now)),
            },
        );
        self.swarm.handle_connected(now, key, traits);
    }

    /// A web server takes part as a peer whose connection is its task.
    pub(super) fn add_web_seed(&mut self, now: Instant, web_seed: WebSeed) {
        if self.swarm.is_complete() {
            return;
        }
        self.next_key += 1;
        let key = PeerKey(self.next_key);
        let (outgoing, requests) = mpsc::channel(OUTGOING_QUEUE);
        let closing = CancellationToken::new();
        tracing::debug!(web_seed = web_seed.origin(), "web seed connected");
        let limit = self.host.limits.download.clone();
        let task = web_seed.run(key, requests, limit, self.handle.0.input.clone());
        self.tasks
            .spawn(closing.clone().run_until_cancelled_owned(task));
        self.peers.insert(
            key,
            Connected {
                peer_id: PeerId::from_random(rand::random()),
                remote: None,
                dialled: false,
                is_supernode: false,
                outgoing,
                closing,
                extensions: None,
            },
        );
        self.swarm.handle_connected(now, key, WebSeed::traits());
    }

    pub(super) fn handle_extended(&mut self, now: Instant, key: PeerKey, id: u8, payload: &Bytes) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let (Some(extensions), Some(remote)) = (&mut peer.extensions, peer.remote) else {
            return;
        };
        match extensions.handle(now, remote, id, payload) {
            Reaction::Nothing => {}
            Reaction::Limits {
                block_length,
                request_queue,
                upload_only,
            } => {
                self.swarm
                    .handle_limits(now, key, block_length, request_queue);
                if upload_only {
                    self.swarm.handle_upload_only(key);
                }
            }
            Reaction::Send(message) => self.transmit(now, key, Outgoing::Message(message)),
            Reaction::Peers(peers) => self.dial(now, peers),
        }
    }

    /// Tells strangers of each other (BEP 11).
    pub(super) fn exchange_peers(&mut self) {
        let now = Instant::now();
        if now < self.next_exchange {
            return;
        }
        self.next_exchange = now + EXCHANGE_INTERVAL;
        let connected = self.peers.len();
        self.handle.0.status.send_if_modified(|status| {
            std::mem::replace(&mut status.peers, connected) != connected
        });
        let contacts: BTreeMap<_, _> = self
            .peers
            .values()
            .filter_map(|peer| peer.extensions.as_ref()?.contact())
            .collect();
        let mut messages = Vec::new();
        for (key, peer) in &mut self.peers {
            let extensions = peer.extensions.as_mut();
            if let Some(message) = extensions.and_then(|e| e.exchange(now, &contacts)) {
                messages.push((*key, message));
            }
        }
        for (key, message) in messages {
            self.transmit(now, key, Outgoing::Message(message));
        }
    }

    /// Whether a peer may be due for an exchange, or the number of peers has changed.
    pub(super) fn has_exchange(&self) -> bool {
        let shown = self.handle.0.status.borrow().peers;
        shown != self.peers.len() || self.peers.values().any(|peer| peer.extensions.is_some())
    }

    pub(super) fn transmit(&mut self, now: Instant, key: PeerKey, outgoing: Outgoing) {
        let peer = self.peers.get(&key);
        if peer.is_some_and(|peer| peer.outgoing.try_send(outgoing).is_err()) {
            self.disconnect(now, key);
        }
    }

    /// In a protected swarm strangers take no room from peers with tickets.
    fn has_room_for(&self, new: &PeerConnection) -> bool {
        let strangers = self
            .peers
            .values()
            .filter(|p| p.extensions.is_some())
            .count();
        match (&new.torrent, &self.handle.0.torrent) {
            (Some(_), None) => strangers < MAX_STRANGERS,
            (None, None) => self.peers.len() - strangers < MAX_PEERS,
            (_, Some(_)) => self.peers.len() < MAX_PEERS,
        }
    }

    /// Two ends that dial each other at once keep the connection that the lower peer id
    /// opened; both ends come to the same answer.
    fn wins_over_twin(&mut self, now: Instant, new: &PeerConnection) -> bool {
        let twin = self
            .peers
            .iter()
            .find(|(_, peer)| peer.peer_id == new.peer_id);
        let Some((key, twin)) = twin.map(|(key, peer)| (*key, peer)) else {
            return true;
        };
        // Without a ticket a peer id is a claim.
        match (twin.extensions.is_some(), new.torrent.is_some()) {
            (true, false) => {
                self.disconnect(now, key);
                return true;
            }
            (false, true) => return false,
            _ => {}
        }
        let lower_dials = self.host.peer_id < new.peer_id;
        if twin.dialled == new.dialled || new.dialled != lower_dials {
            return false;
        }
        self.disconnect(now, key);
        true
    }

    pub(super) fn disconnect(&mut self, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.remove(&key) {
            peer.closing.cancel();
            if let Some(remote) = peer.remote.filter(|_| peer.dialled) {
                self.dial_later(now, remote, REDIAL_INTERVAL);
            }
            self.swarm.handle_disconnected(now, key);
        }
    }

    pub(super) fn dial_later(&mut self, now: Instant, remote: SocketAddr, least: Duration) {
        let known = self.redials.get(&remote);
        let pause = match known.filter(|_| self.handle.0.torrent.is_some()) {
            Some(known) => known.pause.saturating_mul(2).min(MAX_REDIAL_INTERVAL),
            None => least,
        };
        let pause = pause.max(least);
        let not_before = now + pause;
        self.redials.insert(remote, Redial { not_before, pause });
    }

    pub(super) fn count_received(&self, key: PeerKey, bytes: u64) {
        let counters = self.handle.counters();
        counters.count(|counters| &counters.received, bytes);
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        if peer.is_supernode {
            counters.count(|counters| &counters.from_supernodes, bytes);
        }
        self.handle.0.note_served(peer.peer_id, bytes);
    }

    /// The other end, as traces call it.
    pub(super) fn sender(&self, key: PeerKey) -> PieceSender {
        match self.peers.get(&key) {
            Some(peer) if peer.is_supernode => PieceSender::Supernode,
            Some(peer) => PieceSender::Peer(peer.peer_id),
            None => PieceSender::Several,
        }
    }

    pub(super) fn shun(&self, key: PeerKey) {
        if let Some(peer) = self.peers.get(&key) {
            // A stranger in the swarm of a layer may have claimed a node's id: the node would be
            // shunned for it.
            if peer.extensions.is_some() && self.handle.0.torrent.is_none() {
                tracing::debug!(peer.addr = ?peer.remote, "stranger misbehaved, not shunned");
                return;
            }
            tracing::warn!(peer.addr = ?peer.remote, peer.id = %peer.peer_id, "peer shunned");
            self.host
                .bans
                .shun(peer.peer_id, peer.remote.filter(|_| peer.dialled));
        }
    }

    pub(super) fn dial(&mut self, now: Instant, peers: Vec<SocketAddr>) {
        // A seeder of a torrent still dials: it may be the only end that can.
        if self.swarm.held().is_full() && self.handle.0.torrent.is_none() {
            return;
        }
        self.redials
            .retain(|_, redial| now < redial.not_before + redial.pause);
        for remote in self.to_dial(now, peers) {
            self.dialling.insert(remote);
            let me = self.local_identity();
            let input = self.handle.0.input.clone();
            let bans: Bans = self.host.bans.clone();
            let shutdown = self.shutdown.clone();
            self.tasks.spawn(async move {
                let dialled = peer_connection::dial(remote, &me);
                let outcome = shutdown.run_until_cancelled(dialled).await;
                let input_of_dial = match outcome {
                    Some(Ok(peer)) if bans.is_shunned(peer.peer_id) => {
                        Input::DialFailed(remote, HandshakeError::Shunned(peer.peer_id))
                    }
                    Some(Ok(peer)) => Input::Connected(Box::new(peer)),
                    Some(Err(error)) => Input::DialFailed(remote, error),
                    None => return,
                };
                let _ = input.send(input_of_dial).await;
            });
        }
    }

    /// Those of the peers that may be dialled, as many as there is room for.
    fn to_dial(&self, now: Instant, mut peers: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let connected = self.peers.values().filter(|peer| peer.dialled);
        let dials = connected.clone().count() + self.dialling.len();
        let connected: HashSet<SocketAddr> = connected.filter_map(|peer| peer.remote).collect();
        let mut named = HashSet::new();
        peers.retain(|remote| {
            let rests = self.redials.get(remote).map(|redial| redial.not_before);
            rests.is_none_or(|not_before| now >= not_before)
                && !self.host.bans.is_shunned_address(*remote)
                && !connected.contains(remote)
                && !self.dialling.contains(remote)
                && named.insert(*remote)
        });
        let room = MAX_DIALS.saturating_sub(dials);
        if self.handle.0.torrent.is_none() {
            // A supernode has chosen them.
            peers.truncate(room);
            return peers;
        }
        let listen = self.host.listen;
        let own = |remote| peer_priority::own_address(listen, remote);
        peer_priority::preferred(own, peers, room)
    }

    pub(super) fn local_identity(&self) -> LocalIdentity {
        let torrent = self.handle.0.torrent.as_ref();
        self.host.local_identity(&self.handle, torrent)
    }
}
