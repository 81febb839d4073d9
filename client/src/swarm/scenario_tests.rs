//! Whole swarms in memory, with virtual time and shaped links.
//!
//! A host's uplink sends one block after the other at its rate, its downlink likewise;
//! messages take the latency. What a scenario shows depends on its seed alone.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::time::{Duration, Instant};

use flotilla_torrents::peer_wire::Message;
use flotilla_torrents::{Bitfield, Block, Geometry, PieceIndex};

use super::{
    BlockOutcome, DisconnectReason, Event, PeerKey, PeerTraits, Role, Swarm, SwarmConfig, Transmit,
};

const LATENCY: Duration = Duration::from_millis(1);
const ORIGIN: usize = 0;

#[derive(Debug)]
enum Happening {
    Arrives {
        from: usize,
        to: usize,
        message: Message,
    },
    BlockArrives {
        from: usize,
        to: usize,
        block: Block,
    },
    BlockLeft {
        from: usize,
        to: usize,
        block: Block,
    },
    Ingested(PieceIndex),
    HashesKnown {
        host: usize,
        known: u32,
    },
    Dies(usize),
    Tick(usize),
}

struct Host {
    swarm: Swarm,
    rate: f64,
    up_free: Instant,
    down_free: Instant,
    sent: u64,
    received: u64,
    finished: Option<Instant>,
    dead: bool,
    corrupt: bool,
    tainted: HashSet<PieceIndex>,
}

struct Net {
    geometry: Geometry,
    start: Instant,
    now: Instant,
    hosts: Vec<Host>,
    queue: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    happenings: HashMap<usize, Happening>,
    serial: u64,
    shunned: Vec<(usize, usize)>,
    links: HashSet<(usize, usize)>,
    reading: bool,
}

struct Scenario {
    nodes: usize,
    length: u64,
    rate: f64,
    ingest_rate: f64,
    seed: u64,
    reading: bool,
}

impl Scenario {
    fn equal_links(nodes: usize, length: u64) -> Self {
        let rate = 50e6 / 8.0;
        Self {
            nodes,
            length,
            rate,
            ingest_rate: rate,
            seed: 7,
            reading: false,
        }
    }

    /// The fluid bound for equal links: each link has to carry the whole once.
    fn bound(&self) -> f64 {
        self.length as f64 / self.rate
    }

    fn build(&self) -> Net {
        let start = Instant::now();
        let geometry = Geometry::for_length(self.length).unwrap();
        let hosts = (0..=self.nodes)
            .map(|host| {
                let role = if host == ORIGIN {
                    Role::Origin
                } else {
                    Role::Node
                };
                let seed = self.seed.wrapping_mul(1_000).wrapping_add(host as u64);
                let held = Bitfield::empty(&geometry);
                Host {
                    swarm: Swarm::new(SwarmConfig::default(), role, geometry, held, seed, start),
                    rate: self.rate,
                    up_free: start,
                    down_free: start,
                    sent: 0,
                    received: 0,
                    finished: None,
                    dead: false,
                    corrupt: false,
                    tainted: HashSet::new(),
                }
            })
            .collect();
        let mut net = Net {
            geometry,
            start,
            now: start,
            hosts,
            queue: BinaryHeap::new(),
            happenings: HashMap::new(),
            serial: 0,
            shunned: Vec::new(),
            links: HashSet::new(),
            reading: self.reading,
        };
        for a in 0..=self.nodes {
            for b in 0..a {
                net.connect(a, b);
            }
            net.after(Duration::from_millis(50), Happening::Tick(a));
        }
        let mut arrives = 0.0;
        for piece in geometry.pieces() {
            arrives += f64::from(geometry.piece_size(piece)) / self.ingest_rate;
            net.after(Duration::from_secs_f64(arrives), Happening::Ingested(piece));
        }
        net
    }
}

impl Net {
    fn after(&mut self, delay: Duration, happening: Happening) {
        self.at(self.now + delay, happening);
    }

    fn at(&mut self, when: Instant, happening: Happening) {
        self.serial += 1;
        let id = self.serial as usize;
        self.happenings.insert(id, happening);
        self.queue.push(Reverse((when, self.serial, id)));
    }

    fn connect(&mut self, a: usize, b: usize) {
        let traits = PeerTraits {
            authorized: true,
            stranger: false,
            block_length: 64 * 1024,
            request_queue: 2048,
            fast: true,
        };
        self.links.insert((a.min(b), a.max(b)));
        let now = self.now;
        self.hosts[a]
            .swarm
            .handle_connected(now, PeerKey(b as u64), traits);
        self.hosts[b]
            .swarm
            .handle_connected(now, PeerKey(a as u64), traits);
        self.drain(a);
        self.drain(b);
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        if self.links.remove(&(a.min(b), a.max(b))) {
            let now = self.now;
            self.hosts[a]
                .swarm
                .handle_disconnected(now, PeerKey(b as u64));
            self.hosts[b]
                .swarm
                .handle_disconnected(now, PeerKey(a as u64));
            self.drain(a);
            self.drain(b);
        }
    }

    fn linked(&self, a: usize, b: usize) -> bool {
        self.links.contains(&(a.min(b), a.max(b)))
    }

    /// Runs until every living node has everything; the makespan in seconds.
    fn run(&mut self) -> f64 {
        while let Some(Reverse((when, _, id))) = self.queue.pop() {
            self.now = when;
            let elapsed = self.now.duration_since(self.start);
            assert!(
                elapsed < Duration::from_secs(600),
                "not complete in time: {:?}",
                self.progress()
            );
            let happening = self.happenings.remove(&id).unwrap();
            self.happen(happening);
            if self
                .hosts
                .iter()
                .skip(1)
                .all(|host| host.dead || host.corrupt || host.finished.is_some())
            {
                break;
            }
        }
        self.hosts
            .iter()
            .filter_map(|host| host.finished)
            .max()
            .unwrap()
            .duration_since(self.start)
            .as_secs_f64()
    }

    fn progress(&self) -> Vec<u32> {
        self.hosts
            .iter()
            .map(|host| host.swarm.held().count())
            .collect()
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Arrives { from, to, message } if self.linked(from, to) => {
                self.hosts[to]
                    .swarm
                    .handle_message(now, PeerKey(from as u64), &message);
                self.drain(to);
            }
            Happening::BlockArrives { from, to, block } if self.linked(from, to) => {
                self.hosts[to].received += u64::from(block.length);
                let corrupt = self.hosts[from].corrupt;
                let host = &mut self.hosts[to];
                let outcome = host.swarm.handle_block(now, PeerKey(from as u64), block);
                if corrupt && outcome == BlockOutcome::Keep {
                    host.tainted.insert(block.piece);
                }
                self.drain(to);
            }
            Happening::BlockLeft { from, to, block } => {
                self.hosts[from]
                    .swarm
                    .handle_block_sent(now, PeerKey(to as u64), block);
                self.drain(from);
            }
            Happening::Ingested(piece) => {
                if self.hosts[ORIGIN].dead {
                    return;
                }
                self.hosts[ORIGIN].swarm.handle_piece_stored(now, piece);
                self.drain(ORIGIN);
                for host in 1..self.hosts.len() {
                    self.after(
                        LATENCY,
                        Happening::HashesKnown {
                            host,
                            known: piece.get() + 1,
                        },
                    );
                }
            }
            Happening::HashesKnown { host, known } => {
                self.hosts[host].swarm.handle_hashes_known(now, known);
                self.drain(host);
            }
            Happening::Dies(host) => {
                self.hosts[host].dead = true;
                for other in 0..self.hosts.len() {
                    self.disconnect(host, other);
                }
            }
            Happening::Tick(host) => {
                if self.hosts[host].dead {
                    return;
                }
                if self.reading && host != ORIGIN {
                    let held = self.hosts[host].swarm.held();
                    let next = held.first_missing_from(self.geometry.piece(0).unwrap());
                    self.hosts[host].swarm.handle_reader(now, 0, next);
                }
                self.hosts[host].swarm.handle_timeout(now);
                self.drain(host);
                self.after(Duration::from_millis(50), Happening::Tick(host));
            }
            _ => {}
        }
    }

    fn drain(&mut self, host: usize) {
        let now = self.now;
        loop {
            if let Some(event) = self.hosts[host].swarm.poll_event() {
                match event {
                    Event::PieceReceived(piece) => {
                        let this = &mut self.hosts[host];
                        if this.tainted.remove(&piece) {
                            this.swarm.handle_piece_corrupt(now, piece);
                            continue;
                        }
                        this.swarm.handle_piece_stored(now, piece);
                        if this.swarm.held().is_full() && this.finished.is_none() {
                            this.finished = Some(now);
                        }
                    }
                    Event::Disconnect(PeerKey(other), why) => {
                        if why == DisconnectReason::CorruptPiece {
                            self.shunned.push((host, other as usize));
                        }
                        self.disconnect(host, other as usize);
                    }
                }
                continue;
            }
            match self.hosts[host].swarm.poll_transmit(now) {
                Some(Transmit::Message(PeerKey(to), message)) => {
                    let to = to as usize;
                    self.after(
                        LATENCY,
                        Happening::Arrives {
                            from: host,
                            to,
                            message,
                        },
                    );
                }
                Some(Transmit::Block(PeerKey(to), block)) => self.carry(host, to as usize, block),
                None => return,
            }
        }
    }

    fn carry(&mut self, from: usize, to: usize, block: Block) {
        let wire = |rate: f64| Duration::from_secs_f64(f64::from(block.length) / rate);
        let sender = &mut self.hosts[from];
        let left = sender.up_free.max(self.now) + wire(sender.rate);
        sender.up_free = left;
        sender.sent += u64::from(block.length);
        let receiver = &mut self.hosts[to];
        let arrived = (receiver.down_free + wire(receiver.rate)).max(left);
        receiver.down_free = arrived;
        self.at(left, Happening::BlockLeft { from, to, block });
        self.at(
            arrived + LATENCY,
            Happening::BlockArrives { from, to, block },
        );
    }

    fn copies_sent_by_origin(&self) -> f64 {
        self.hosts[ORIGIN].sent as f64 / self.geometry.length() as f64
    }

    fn received_per_node(&self) -> f64 {
        let received: u64 = self.hosts.iter().skip(1).map(|host| host.received).sum();
        received as f64 / self.geometry.length() as f64 / (self.hosts.len() - 1) as f64
    }
}

#[test]
fn twenty_nodes_finish_near_the_bound_while_the_layer_arrives() {
    for seed in 0..3 {
        let scenario = Scenario {
            seed,
            ..Scenario::equal_links(20, 64 << 20)
        };
        let mut net = scenario.build();
        let ratio = net.run() / scenario.bound();
        let (copies, received) = (net.copies_sent_by_origin(), net.received_per_node());
        println!(
            "seed {seed}: {ratio:.3} of the bound, origin sent {copies:.3} copies, received {received:.3}"
        );
        assert!(ratio < 1.2, "seed {seed}: makespan {ratio:.3} of the bound");
        assert!(
            copies < 1.15,
            "seed {seed}: the origin sent {copies:.3} copies"
        );
        assert!(
            received < 1.02,
            "seed {seed}: each node received {received:.3} layers"
        );
    }
}

#[test]
fn twenty_nodes_finish_near_the_bound_when_the_layer_is_cached() {
    for seed in 0..3 {
        let scenario = Scenario {
            seed,
            ingest_rate: 1e9,
            ..Scenario::equal_links(20, 64 << 20)
        };
        let mut net = scenario.build();
        let ratio = net.run() / scenario.bound();
        let (copies, received) = (net.copies_sent_by_origin(), net.received_per_node());
        println!(
            "seed {seed}: {ratio:.3} of the bound, origin sent {copies:.3} copies, received {received:.3}"
        );
        assert!(ratio < 1.2, "seed {seed}: makespan {ratio:.3} of the bound");
    }
}

#[test]
fn reading_in_order_costs_little() {
    for seed in 0..3 {
        let reading = Scenario {
            seed,
            reading: true,
            ..Scenario::equal_links(20, 64 << 20)
        };
        let ratio = reading.build().run() / reading.bound();
        println!("seed {seed}: {ratio:.3} of the bound");
        assert!(ratio < 1.2, "seed {seed}: makespan {ratio:.3} of the bound");
    }
}

#[test]
fn a_single_node_gets_the_layer_at_the_speed_of_its_link() {
    let scenario = Scenario::equal_links(1, 64 << 20);
    let ratio = scenario.build().run() / scenario.bound();
    assert!(ratio < 1.05, "{ratio:.3} of the bound");
}

#[test]
fn a_corrupt_peer_is_shunned_and_the_layer_still_completes() {
    let scenario = Scenario::equal_links(5, 16 << 20);
    let mut net = scenario.build();
    net.hosts[3].corrupt = true;
    let ratio = net.run() / scenario.bound();
    assert!(
        net.shunned.iter().all(|(_, culprit)| *culprit == 3),
        "{:?}",
        net.shunned
    );
    assert!(
        !net.shunned.is_empty(),
        "the corrupt peer was never used: {ratio:.3}"
    );
    assert!(ratio < 2.0, "{ratio:.3} of the bound");
}

#[test]
fn peers_that_die_do_not_stop_the_others() {
    let scenario = Scenario::equal_links(10, 16 << 20);
    let mut net = scenario.build();
    for (host, after) in [(2, 500), (5, 1000), (7, 1500)] {
        net.after(Duration::from_millis(after), Happening::Dies(host));
    }
    let ratio = net.run() / scenario.bound();
    assert!(ratio < 2.0, "{ratio:.3} of the bound");
}
