//! One host: the state machine and what is noted of it.

use std::collections::HashSet;

use flotilla_client::swarm::Swarm;
use flotilla_torrents::PieceIndex;

use super::events::Time;
use super::scenario::Behaviour;

pub(super) struct Host {
    pub(super) swarm: Swarm,
    pub(super) behaviour: Behaviour,
    pub(super) presence: Presence,
    pub(super) arrived: Time,
    pub(super) first_piece: Option<Time>,
    pub(super) finished: Option<Time>,
    /// Bytes of blocks.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Bytes of messages other than blocks, with their headers.
    pub(super) control: u64,
    pub(super) announces: u32,
    pub(super) connections: usize,
    pub(super) dials: usize,
    /// Pieces with a block from a corrupt peer.
    pub(super) tainted: HashSet<PieceIndex>,
    /// The timeout that is in the queue.
    pub(super) wakes: Option<Time>,
}

/// Whether a host takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It has not arrived.
    Absent,
    /// It takes part.
    Here,
    /// It has left or died.
    Gone,
}

impl Host {
    pub(super) fn new(swarm: Swarm, behaviour: Behaviour, presence: Presence) -> Self {
        Self {
            swarm,
            behaviour,
            presence,
            arrived: 0,
            first_piece: None,
            finished: None,
            sent: 0,
            received: 0,
            control: 0,
            announces: 0,
            connections: 0,
            dials: 0,
            tainted: HashSet::new(),
            wakes: None,
        }
    }

    /// The simulation waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.behaviour == Behaviour::Honest
            && self.finished.is_none()
            && self.presence != Presence::Gone
    }
}
