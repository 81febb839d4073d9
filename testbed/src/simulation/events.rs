//! What happens when, in the order of virtual time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use flotilla_torrents::peer_wire::Message;
use flotilla_torrents::{Block, PieceIndex};

/// Nanoseconds since the beginning.
pub(super) type Time = u64;

/// A host by its index; the supernode is [`SUPERNODE`].
pub(super) type HostId = u32;

/// The supernode's index.
pub(super) const SUPERNODE: HostId = 0;

/// Something that happens.
#[derive(Debug)]
pub(super) enum Event {
    /// Messages of one host reach others.
    Messages(HostId, Vec<(HostId, Message)>),
    /// A block reaches a host.
    Block {
        from: HostId,
        to: HostId,
        block: Block,
    },
    /// A block is written to the connection.
    Sent {
        from: HostId,
        to: HostId,
        block: Block,
    },
    /// The supernode has read a piece from the source.
    Ingested(PieceIndex),
    /// All nodes learn the hashes of the first pieces.
    Known(u32),
    /// The state machine of a host asked for this time.
    Timeout(HostId),
    /// A node begins.
    Arrives(HostId),
    /// A node asks the tracker again.
    Announces(HostId),
    /// A dialled connection stands.
    Connected(HostId, HostId),
    /// A node is gone.
    Dies(HostId),
    /// The use of the links is noted.
    Sample,
}

struct Entry {
    at: Time,
    serial: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The earliest is the greatest; equals in the order in which they were added.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}

/// The future.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Entry>,
    serial: u64,
}

impl Queue {
    pub(super) fn add(&mut self, at: Time, event: Event) {
        self.serial += 1;
        let serial = self.serial;
        self.heap.push(Entry { at, serial, event });
    }

    pub(super) fn next(&mut self) -> Option<(Time, Event)> {
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}
