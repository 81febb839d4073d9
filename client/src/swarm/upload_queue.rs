//! Which peer to serve next.
//!
//! No peer is choked for barter; what protects the uploader is that few bytes wait in the sockets, and
//! that the peers take turns piece by piece. A piece leaves whole before the next one begins: serving many
//! at once would make the first complete copy later by as many times.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use flotilla_torrents::{Block, PieceIndex};
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom as _;

use super::config::SwarmConfig;
use super::peer::{Peer, PeerKey};
use super::rates::Uplink;

/// The turns of the peers that wait for blocks.
#[derive(Debug)]
pub(super) struct UploadQueue {
    /// The peer and the piece whose turn it is.
    turn: Option<(PeerKey, PieceIndex)>,
    waiting: VecDeque<PeerKey>,
    /// Bytes of all peers that are handed to connections and not written.
    in_sockets: u64,
    uplink: Uplink,
}

/// Sockets may hold this many times the usual bytes when receivers hold them up.
const HELD_UP: u64 = 8;

impl UploadQueue {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            turn: None,
            waiting: VecDeque::new(),
            in_sockets: 0,
            uplink: Uplink::new(now),
        }
    }

    /// `peer` has requests waiting.
    pub(super) fn enqueue(&mut self, peer: PeerKey) {
        if !self.waiting.contains(&peer) && self.turn.is_none_or(|(turn, _)| turn != peer) {
            self.waiting.push_back(peer);
        }
    }

    /// `key` is gone.
    pub(super) fn remove(&mut self, key: PeerKey, peer: &Peer) {
        self.waiting.retain(|waiting| *waiting != key);
        self.turn = self.turn.filter(|(turn, _)| *turn != key);
        self.in_sockets = self.in_sockets.saturating_sub(peer.in_socket);
    }

    /// No peer of ours waits for a turn, or has it: the uplink has room. Strangers do not count: as long as one of them loads, the nodes would be shown nothing.
    pub(super) fn is_idle(&self, peers: &BTreeMap<PeerKey, Peer>) -> bool {
        let own = |key: &PeerKey| peers.get(key).is_none_or(|peer| !peer.traits.stranger);
        !self.waiting.iter().any(own) && self.turn.is_none_or(|(key, _)| !own(&key))
    }

    /// Whether any upload is under way.
    pub(super) fn is_active(&self) -> bool {
        self.turn.is_some() || !self.waiting.is_empty() || self.in_sockets > 0
    }

    /// Bytes that leave within `span`.
    pub(super) fn bytes_in(&self, span: Duration) -> u64 {
        self.uplink.bytes_in(span)
    }

    /// Bytes handed to connections that wait for the uplink.
    pub(super) fn queued(&self, now: Instant) -> u64 {
        self.uplink.queue(now).min(self.in_sockets)
    }

    /// A block of `bytes` was written to the connection of `peer`.
    pub(super) fn sent(&mut self, now: Instant, peer: &mut Peer, bytes: u64) {
        self.uplink.sent(now, bytes);
        peer.in_socket = peer.in_socket.saturating_sub(bytes);
        self.in_sockets = self.in_sockets.saturating_sub(bytes);
    }

    /// Whether the uplink needs more. It may have sent all that it can although the sockets are full:
    /// receivers whose links are full hold them up.
    fn may_hand(&self, now: Instant, config: &SwarmConfig) -> bool {
        let in_sockets = self.in_sockets;
        let usual = self.usual_in_sockets(config);
        in_sockets < usual.min(config.max_in_sockets)
            || (in_sockets < usual.saturating_mul(HELD_UP).min(config.max_in_sockets)
                && self.uplink.queue(now) < usual)
    }

    /// Bytes in sockets that keep the uplink busy.
    fn usual_in_sockets(&self, config: &SwarmConfig) -> u64 {
        self.uplink
            .bytes_in(config.socket_time)
            .max(config.min_in_sockets)
    }

    /// The next block to hand to a connection.
    pub(super) fn next(
        &mut self,
        now: Instant,
        config: &SwarmConfig,
        peers: &mut BTreeMap<PeerKey, Peer>,
        rng: &mut SmallRng,
    ) -> Option<(PeerKey, Block)> {
        if (self.turn.is_none() && self.waiting.is_empty()) || !self.may_hand(now, config) {
            return None;
        }
        loop {
            let (key, piece) = match self.turn {
                Some(turn) => turn,
                None => self.start_turn(config, peers, rng)?,
            };
            let peer = peers.get_mut(&key);
            let next = peer.and_then(|peer| {
                let at = peer.uploads.iter().position(|block| block.piece == piece)?;
                let block = peer.uploads.remove(at)?;
                peer.in_socket += u64::from(block.length);
                Some(block)
            });
            if let Some(block) = next {
                self.uplink.handed(now, u64::from(block.length));
                self.in_sockets = self.in_sockets.saturating_add(u64::from(block.length));
                self.turn = Some((key, piece));
                return Some((key, block));
            }
            // The piece has been handed over whole: the next in turn.
            self.turn = None;
            if peers.get(&key).is_some_and(|peer| !peer.uploads.is_empty()) {
                self.waiting.push_back(key);
            }
        }
    }

    /// Gives the turn to one of our peers that wait, whichever, or else to the stranger that waits longest.
    fn start_turn(
        &mut self,
        config: &SwarmConfig,
        peers: &BTreeMap<PeerKey, Peer>,
        rng: &mut SmallRng,
    ) -> Option<(PeerKey, PieceIndex)> {
        let own = |key: &PeerKey| peers.get(key).is_some_and(|peer| !peer.traits.stranger);
        let most = self.usual_in_sockets(config);
        loop {
            let may = |key: &PeerKey| peers.get(key).is_none_or(|peer| peer.in_socket < most);
            let waiting = || self.waiting.iter().enumerate().filter(|(_, key)| may(key));
            let ours = waiting()
                .filter(|(_, key)| own(key))
                .map(|(at, _)| at)
                .choose(rng);
            let next = ours.or_else(|| waiting().map(|(at, _)| at).next())?;
            let peer = self.waiting.remove(next)?;
            if let Some(block) = peers.get(&peer).and_then(|peer| peer.uploads.front()) {
                return Some((peer, block.piece));
            }
        }
    }
}
