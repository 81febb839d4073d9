//! What the state machines of hosts want: messages and blocks on their way, pieces compared.

use std::time::Instant;

use flotilla_client::swarm::{self, DisconnectReason, PeerKey, Transmit};
use flotilla_torrents::peer_wire::Message;
use flotilla_torrents::{Block, PieceIndex};

use super::{Cluster, index};
use crate::simulation::events::{Event, HostId, Time};
use crate::simulation::scenario::Behaviour;

impl Cluster {
    /// Does what the state machine of a host wants.
    pub(super) fn drain(&mut self, id: HostId) {
        let now = self.instant();
        let mut messages: Vec<(HostId, Message)> = Vec::new();
        loop {
            let Some(host) = self.present(id) else { return };
            if let Some(event) = host.swarm.poll_event() {
                match event {
                    swarm::Event::PieceReceived(piece) => self.check(now, id, piece),
                    swarm::Event::Disconnect(PeerKey(other), reason) => {
                        let other = HostId::try_from(other).unwrap_or(HostId::MAX);
                        if reason == DisconnectReason::CorruptPiece {
                            self.shunned.push((id, other));
                        }
                        self.disconnect(id, other);
                    }
                }
                continue;
            }
            match host.swarm.poll_transmit(now) {
                Some(Transmit::Message(PeerKey(to), message)) => {
                    messages.push((HostId::try_from(to).unwrap_or(HostId::MAX), message));
                }
                Some(Transmit::Block(PeerKey(to), block)) => {
                    self.carry(id, HostId::try_from(to).unwrap_or(HostId::MAX), block);
                }
                None => break,
            }
        }
        self.deliver(id, messages);
        self.wake(id);
    }

    /// Compares a piece with its hash and stores it.
    fn check(&mut self, now: Instant, id: HostId, piece: PieceIndex) {
        let at = self.now;
        let Some(host) = self.host(id) else { return };
        if host.tainted.remove(&piece) {
            return host.swarm.handle_piece_corrupt(now, piece);
        }
        host.swarm.handle_piece_stored(now, piece);
        host.first_piece.get_or_insert(at);
        if host.finished.is_none() && host.swarm.held().is_full() {
            let awaited = host.is_awaited();
            host.finished = Some(at);
            self.awaited = self.awaited.saturating_sub(usize::from(awaited));
            if self.leave_when_complete {
                self.queue.add(at, Event::Dies(id));
            }
        }
        self.read(id);
    }

    fn carry(&mut self, from: HostId, to: HostId, block: Block) {
        let Some(host) = self.host(from) else { return };
        if host.behaviour == Behaviour::Silent {
            return;
        }
        host.sent += u64::from(block.length);
        let passage = self
            .links
            .carry(self.now, index(from), index(to), block.length);
        self.queue
            .add(passage.written, Event::Sent { from, to, block });
        self.queue
            .add(passage.arrives, Event::Block { from, to, block });
    }

    /// Sends messages; those that arrive at the same time do so in one event.
    fn deliver(&mut self, from: HostId, mut messages: Vec<(HostId, Message)>) {
        // Messages to one host leave in one packet, in their order.
        messages.sort_by_key(|(to, _)| *to);
        let mut batch: (Time, Vec<(HostId, Message)>) = (0, Vec::new());
        for of_one in messages.chunk_by(|a, b| a.0 == b.0) {
            let Some((to, _)) = of_one.first() else {
                continue;
            };
            let bytes = of_one.iter().map(|(_, message)| wire_length(message)).sum();
            let at = self.links.message(self.now, index(from), index(*to), bytes);
            if let Some(host) = self.host(from) {
                host.control += u64::try_from(bytes).unwrap_or(0) + 66;
            }
            // Differences of less than a millisecond show nothing, and cost an event each.
            if at > batch.0 + 1_000_000 && !batch.1.is_empty() {
                let (at, messages) = std::mem::take(&mut batch);
                self.queue.add(at, Event::Messages(from, messages));
            }
            batch.0 = batch.0.max(at);
            batch.1.extend_from_slice(of_one);
        }
        if !batch.1.is_empty() {
            self.queue.add(batch.0, Event::Messages(from, batch.1));
        }
    }

    /// Asks for the time at which the state machine wants to be called.
    fn wake(&mut self, id: HostId) {
        let epoch = self.epoch;
        let Some(host) = self.host(id) else { return };
        let wanted = host.swarm.poll_timeout();
        let Some(wanted) = wanted.map(|at| at.saturating_duration_since(epoch)) else {
            return;
        };
        let wanted = Time::try_from(wanted.as_nanos()).unwrap_or(Time::MAX);
        if host.wakes.is_none_or(|wakes| wanted < wakes) {
            host.wakes = Some(wanted);
            self.queue.add(wanted, Event::Timeout(id));
        }
    }
}

/// Bytes of a message on the wire (BEP 3).
fn wire_length(message: &Message) -> usize {
    let payload = match message {
        Message::Have(_) => 4,
        Message::Bitfield(bits) => bits.len(),
        Message::Request { .. } | Message::Cancel { .. } | Message::Reject { .. } => 12,
        _ => 0,
    };
    5 + payload
}
