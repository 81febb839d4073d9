//! A supernode and its nodes in virtual time.

mod outputs;

use std::time::{Duration, Instant};

use flotilla_client::swarm::{self, BlockOutcome, PeerKey, PeerTraits, Role, Swarm};
use flotilla_torrents::{Bitfield, Block, Geometry};
use rand::rngs::SmallRng;
use rand::seq::IteratorRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::events::{Event, HostId, Queue, SUPERNODE, Time};
use super::host::{Host, Presence};
use super::links::{Links, nanoseconds};
use super::report::{Report, Sample};
use super::scenario::{Behaviour, Scenario, ScenarioError};

/// Connections of one host, accepted ones included, as in production.
const MAX_PEERS: usize = 200;
/// Peers that the tracker names at once, as in production.
const NUMWANT: usize = 50;
/// Pause between two announces of a node that loads, as in production.
const ANNOUNCE_INTERVAL: Time = 5_000_000_000;
/// Nodes that arrive at once do so within this.
const FLASH: Time = 100_000_000;
/// How often the use of the links is noted.
const SAMPLE_INTERVAL: Time = 100_000_000;

/// Plays a scenario.
///
/// # Errors
/// Values that cannot be, and nodes that do not complete within the scenario's limit.
pub fn run(scenario: &Scenario) -> Result<Report, ScenarioError> {
    let mut cluster = Cluster::new(scenario)?;
    cluster.begin(scenario);
    cluster.play(scenario)?;
    Ok(cluster.report(scenario))
}

struct Cluster {
    geometry: Geometry,
    epoch: Instant,
    now: Time,
    queue: Queue,
    hosts: Vec<Host>,
    links: Links,
    members: Vec<HostId>,
    dials: usize,
    read_in_order: bool,
    leave_when_complete: bool,
    /// Nodes that the simulation waits for.
    awaited: usize,
    known: u32,
    shunned: Vec<(HostId, HostId)>,
    samples: Vec<Sample>,
    rng: SmallRng,
}

impl Cluster {
    fn new(scenario: &Scenario) -> Result<Self, ScenarioError> {
        let geometry = scenario.geometry()?;
        let epoch = Instant::now();
        let behaviours = scenario
            .nodes
            .iter()
            .flat_map(|group| std::iter::repeat_n(group.behaviour, group.count));
        let new = |id: u64, role, behaviour, presence| {
            let swarm = Swarm::new(
                scenario.swarm.config(),
                role,
                geometry,
                Bitfield::empty(&geometry),
                scenario.seed.wrapping_mul(1_000_003).wrapping_add(id),
                epoch,
            );
            Host::new(swarm, behaviour, presence)
        };
        let supernode = new(0, Role::Origin, Behaviour::Honest, Presence::Here);
        let nodes = (1..).zip(behaviours);
        let nodes = nodes.map(|(id, behaviour)| new(id, Role::Node, behaviour, Presence::Absent));
        let hosts: Vec<Host> = std::iter::once(supernode).chain(nodes).collect();
        if hosts.len() < 2 {
            return Err(ScenarioError::Value(
                "no nodes: expected at least one".to_owned(),
            ));
        }
        Ok(Self {
            geometry,
            epoch,
            now: 0,
            queue: Queue::default(),
            awaited: hosts
                .iter()
                .skip(1)
                .filter(|host| host.is_awaited())
                .count(),
            hosts,
            links: Links::new(scenario),
            members: Vec::new(),
            dials: scenario.dials,
            read_in_order: scenario.read_in_order,
            leave_when_complete: scenario.leave_when_complete,
            known: 0,
            shunned: Vec::new(),
            samples: Vec::new(),
            rng: SmallRng::seed_from_u64(scenario.seed),
        })
    }

    /// Puts into the queue what does not depend on anything else.
    fn begin(&mut self, scenario: &Scenario) {
        let mut arrived = 0.0;
        for piece in self.geometry.pieces() {
            let bits = f64::from(self.geometry.piece_size(piece)) * 8.0;
            arrived += scenario.source_mbit.map_or(0.0, |mbit| bits / mbit * 1e3);
            self.queue.add(nanoseconds(arrived), Event::Ingested(piece));
        }
        let deaths = scenario
            .nodes
            .iter()
            .flat_map(|group| std::iter::repeat_n(group.dies_after_s, group.count));
        let mut arrives = 0.0;
        for (host, dies_after_s) in (1..).zip(deaths) {
            let at = if scenario.arrival_s > 0.0 {
                nanoseconds(arrives)
            } else {
                self.rng.random_range(0..FLASH)
            };
            arrives += scenario.arrival_s * 1e9;
            self.queue.add(at, Event::Arrives(host));
            if let Some(seconds) = dies_after_s {
                self.queue
                    .add(at + nanoseconds(seconds * 1e9), Event::Dies(host));
            }
        }
        self.queue.add(0, Event::Sample);
    }

    fn play(&mut self, scenario: &Scenario) -> Result<(), ScenarioError> {
        let limit = nanoseconds(scenario.limit_s * 1e9);
        while self.awaited > 0 {
            let next = self.queue.next().filter(|(at, _)| *at <= limit);
            let Some((at, event)) = next else {
                return Err(self.unfinished(scenario));
            };
            self.now = at;
            self.happen(event);
        }
        Ok(())
    }

    fn unfinished(&self, scenario: &Scenario) -> ScenarioError {
        let missing = self.hosts.iter().skip(1).filter(|host| host.is_awaited());
        let mut held: Vec<u32> = missing.map(|host| host.swarm.held().count()).collect();
        held.sort_unstable();
        ScenarioError::Unfinished {
            missing: held.len(),
            limit_s: scenario.limit_s,
            held: format!(
                "{:?} of {} pieces",
                held.iter().take(10).collect::<Vec<_>>(),
                self.geometry.piece_count()
            ),
        }
    }

    fn instant(&self) -> Instant {
        self.epoch + Duration::from_nanos(self.now)
    }

    fn host(&mut self, id: HostId) -> Option<&mut Host> {
        self.hosts.get_mut(index(id))
    }

    /// The host, if it takes part.
    fn present(&mut self, id: HostId) -> Option<&mut Host> {
        self.host(id).filter(|host| host.presence == Presence::Here)
    }

    fn happen(&mut self, event: Event) {
        let now = self.instant();
        match event {
            Event::Messages(from, messages) => {
                for (to, message) in messages {
                    let Some(host) = self.present(to) else {
                        continue;
                    };
                    host.swarm.handle_message(now, key(from), &message);
                    self.drain(to);
                }
            }
            Event::Block { from, to, block } => self.block_arrives(now, from, to, block),
            Event::Sent { from, to, block } => {
                if let Some(host) = self.present(from) {
                    host.swarm.handle_block_sent(now, key(to), block);
                    self.drain(from);
                }
            }
            Event::Ingested(piece) => {
                if let Some(host) = self.present(SUPERNODE) {
                    host.swarm.handle_piece_stored(now, piece);
                    self.drain(SUPERNODE);
                    let at = self.now + self.links.delay(0, 1);
                    self.queue.add(at, Event::Known(piece.get() + 1));
                }
            }
            Event::Known(known) => {
                self.known = known;
                for host in self.ids() {
                    if let Some(host) = self.present(host) {
                        host.swarm.handle_hashes_known(now, known);
                    }
                    self.drain(host);
                }
            }
            Event::Timeout(id) => {
                if let Some(host) = self.present(id) {
                    host.wakes = None;
                    host.swarm.handle_timeout(now);
                    self.drain(id);
                }
            }
            Event::Arrives(id) => self.arrives(now, id),
            Event::Announces(id) => self.announces(id),
            Event::Connected(from, to) => self.connected(now, from, to),
            Event::Dies(id) => self.leaves(id),
            Event::Sample => self.sample(),
        }
    }

    fn ids(&self) -> impl Iterator<Item = HostId> + use<> {
        let count = HostId::try_from(self.hosts.len()).unwrap_or(HostId::MAX);
        1..count
    }

    fn block_arrives(&mut self, now: Instant, from: HostId, to: HostId, block: Block) {
        let corrupt = self
            .hosts
            .get(index(from))
            .is_some_and(|host| host.behaviour == Behaviour::Corrupt);
        let Some(host) = self.present(to) else { return };
        host.received += u64::from(block.length);
        let outcome = host.swarm.handle_block(now, key(from), block);
        if corrupt && outcome == BlockOutcome::Keep {
            host.tainted.insert(block.piece);
        }
        self.drain(to);
    }

    fn arrives(&mut self, now: Instant, id: HostId) {
        let (at, known) = (self.now, self.known);
        let Some(host) = self.host(id) else { return };
        if host.presence != Presence::Absent {
            return;
        }
        host.presence = Presence::Here;
        host.arrived = at;
        host.swarm.handle_hashes_known(now, known);
        let supernode = at + 3 * self.links.delay(index(id), 0);
        self.queue.add(supernode, Event::Connected(id, SUPERNODE));
        self.announces(id);
        self.members.push(id);
        self.read(id);
    }

    /// A node asks for peers and dials those it has room for.
    fn announces(&mut self, id: HostId) {
        let dials = self.dials;
        let Some(host) = self.present(id) else { return };
        if host.finished.is_some() {
            return;
        }
        host.announces += 1;
        let room = dials.saturating_sub(host.dials).min(NUMWANT);
        let others = self.members.iter().copied().filter(|other| *other != id);
        for other in others.sample(&mut self.rng, room) {
            if let Some(host) = self.host(id) {
                host.dials += 1;
            }
            let at = self.now + 3 * self.links.delay(index(id), index(other));
            self.queue.add(at, Event::Connected(id, other));
        }
        self.queue
            .add(self.now + ANNOUNCE_INTERVAL, Event::Announces(id));
    }

    fn connected(&mut self, now: Instant, from: HostId, to: HostId) {
        let traits = PeerTraits {
            authorized: true,
            stranger: false,
            block_length: swarm::OWN_BLOCK,
            request_queue: u32::try_from(swarm::REQUEST_QUEUE).unwrap_or(u32::MAX),
            fast: true,
        };
        let room = |host: &Host| host.presence == Presence::Here && host.connections < MAX_PEERS;
        let both = [from, to];
        if !both
            .iter()
            .all(|id| self.hosts.get(index(*id)).is_some_and(room))
        {
            return;
        }
        let connected = self
            .hosts
            .get(index(from))
            .is_some_and(|host| host.swarm.is_connected(key(to)));
        if connected {
            return;
        }
        for (here, there) in [(from, to), (to, from)] {
            if let Some(host) = self.host(here) {
                host.connections += 1;
                host.swarm.handle_connected(now, key(there), traits);
            }
        }
        self.drain(from);
        self.drain(to);
    }

    fn disconnect(&mut self, a: HostId, b: HostId) {
        let now = self.instant();
        for (here, there) in [(a, b), (b, a)] {
            if let Some(host) = self
                .host(here)
                .filter(|host| host.swarm.is_connected(key(there)))
            {
                host.connections = host.connections.saturating_sub(1);
                host.swarm.handle_disconnected(now, key(there));
            }
        }
        self.drain(a);
        self.drain(b);
    }

    fn leaves(&mut self, id: HostId) {
        let Some(host) = self.present(id) else { return };
        let awaited = host.is_awaited();
        host.presence = Presence::Gone;
        self.awaited = self.awaited.saturating_sub(usize::from(awaited));
        self.members.retain(|member| *member != id);
        let here = |cluster: &Self, other: HostId| {
            cluster
                .hosts
                .get(index(other))
                .is_some_and(|host| host.swarm.is_connected(key(id)))
        };
        for other in std::iter::once(SUPERNODE).chain(self.ids()) {
            if here(self, other) {
                self.disconnect(id, other);
            }
        }
    }

    /// Moves the reader to the first missing piece.
    fn read(&mut self, id: HostId) {
        if !self.read_in_order {
            return;
        }
        let (now, first) = (self.instant(), self.geometry.piece(0));
        if let (Some(host), Some(first)) = (self.present(id), first) {
            let next = host.swarm.held().first_missing_from(first);
            host.swarm.handle_reader(now, 0, next);
        }
    }

    fn sample(&mut self) {
        let up = self.links.up.iter();
        self.samples.push(Sample {
            at: self.now,
            supernode: up.clone().next().map_or(0.0, |link| link.carried),
            nodes: up.skip(1).map(|link| link.carried).sum(),
        });
        self.queue.add(self.now + SAMPLE_INTERVAL, Event::Sample);
    }

    fn report(self, scenario: &Scenario) -> Report {
        Report::new(
            scenario,
            &self.hosts,
            &self.samples,
            self.shunned,
            self.geometry,
        )
    }
}

fn key(id: HostId) -> PeerKey {
    PeerKey(u64::from(id))
}

fn index(id: HostId) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}
