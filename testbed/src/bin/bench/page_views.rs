//! What open statistics pages take away from announces, and how much they are sent.

use std::net::SocketAddr;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use flotilla_cluster::TicketSigner;
use flotilla_testbed::{Flotilla, Host, Lifetime, Supernode, Table, Testbed};

use crate::announcers::Announcer;
use crate::event_stream::EventStream;
use crate::statistics::middle;

/// What the open pages show; the lists with as many rows as are handed out at once.
const VIEWS: [(&str, &str); 3] = [
    ("nodes", "view=nodes&per_page=200"),
    ("swarms", "view=swarms&per_page=200"),
    ("totals", "view=totals"),
];

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Simulated nodes, each in one swarm.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    nodes: u32,
    /// Swarms that they are in.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    swarms: u32,
    /// Connections that announces come on, each with one under way at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// How often each state is measured, in turns; the medians are compared.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a turn. An event comes each second and is counted whole, so that the bytes a second of a
    /// short turn are too many or too few by up to an event in that time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

/// Turns with the same number of pages open.
#[derive(Debug, Default)]
struct State {
    announces_per_second: Vec<f64>,
    /// CPU seconds of the supernode for a thousand announces.
    cpu: Vec<f64>,
    /// Of each view.
    bytes_per_second: [Vec<f64>; VIEWS.len()],
}

/// A supernode and those who talk to it.
struct Scene {
    supernode: Supernode,
    address: SocketAddr,
    join_token: &'static str,
    /// Where nodes and pages are.
    host: Host,
    announcers: Vec<Announcer>,
    turn: Duration,
}

pub(crate) fn measure(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.rounds > 0, "--rounds 0: at least one is needed");
    let flotilla = Flotilla::find()?;
    let mut testbed = Testbed::create(Lifetime::Process)?;
    let supernode_host = testbed.host("supernode")?;
    let host = testbed.host("nodes")?;
    let supernode = Supernode::start(&flotilla, &supernode_host)?;
    let address = supernode.url().trim_start_matches("http://").parse()?;
    let key = supernode_host.directory().join("supernode/ticket-key");
    let key = std::fs::read(key).context("cannot read the supernode's ticket key")?;
    let signer = TicketSigner::from_pkcs8(&key).context("the ticket key is malformed")?;
    let load = (arguments.nodes, arguments.swarms, arguments.connections);
    let mut scene = Scene {
        announcers: Announcer::connect(&host, address, &signer, load)?,
        supernode,
        address,
        join_token: flotilla.join_token().1,
        host,
        turn: Duration::from_secs(arguments.seconds),
    };
    for announcer in &mut scene.announcers {
        announcer.announce_all()?;
    }
    let (mut closed, mut open) = (State::default(), State::default());
    for round in 0..arguments.rounds {
        // Whatever changes over time on the machine is not to be one state's alone.
        for with_pages in [round % 2 == 1, round % 2 == 0] {
            if with_pages {
                scene.take_turn(&mut open, &VIEWS)?;
            } else {
                scene.take_turn(&mut closed, &[])?;
            }
        }
    }
    print!("{}", table(arguments, &closed, &open));
    Ok(())
}

impl Scene {
    fn take_turn(&mut self, state: &mut State, views: &[(&str, &str)]) -> Result<()> {
        let streams = views
            .iter()
            .map(|(_, query)| EventStream::open(&self.host, self.address, self.join_token, query));
        let mut streams: Vec<EventStream> = streams.collect::<Result<_>>()?;
        let cpu = self.supernode.process.cpu_seconds()?;
        let end = Instant::now() + self.turn;
        let (announces, bytes) = thread::scope(|scope| {
            let announcers = self.announcers.iter_mut();
            let announcers: Vec<_> = announcers
                .map(|announcer| scope.spawn(move || announcer.announce_until(end)))
                .collect();
            let streams = streams.iter_mut();
            let streams: Vec<_> = streams
                .map(|stream| scope.spawn(move || stream.read_until(end)))
                .collect();
            anyhow::Ok((joined(announcers)?, joined(streams)?))
        })?;
        let cpu = self.supernode.process.cpu_seconds()? - cpu;
        let announces = f64::from(announces.into_iter().sum::<u32>());
        let seconds = self.turn.as_secs_f64();
        state.announces_per_second.push(announces / seconds);
        state.cpu.push(cpu * 1000.0 / announces);
        for (all, bytes) in state.bytes_per_second.iter_mut().zip(bytes) {
            all.push(f64::from(u32::try_from(bytes)?) / seconds);
        }
        Ok(())
    }
}

fn joined<T>(threads: Vec<ScopedJoinHandle<'_, Result<T>>>) -> Result<Vec<T>> {
    let outcomes = threads.into_iter().map(|thread| {
        let outcome = thread.join();
        outcome.map_err(|_| anyhow!("a thread of the measurement panicked"))?
    });
    outcomes.collect()
}

fn table(arguments: &Arguments, closed: &State, open: &State) -> Table {
    let title = format!(
        "{} nodes in {} swarms announce",
        arguments.nodes, arguments.swarms
    );
    let pages = format!("{} pages open", VIEWS.len());
    let mut table = Table::new(&[title.as_str(), "no page open", &pages, "ratio"]);
    let mut row = |name: &str, of: fn(&State) -> &[f64], digits: usize| {
        let (closed, open) = (middle(of(closed)), middle(of(open)));
        table.row(&[
            name.to_owned(),
            format!("{closed:.digits$}"),
            format!("{open:.digits$}"),
            format!("{:.3}", open / closed),
        ]);
    };
    row("announces a second", |state| &state.announces_per_second, 0);
    row("CPU s of the supernode per 1,000", |state| &state.cpu, 3);
    for ((name, _), bytes) in VIEWS.iter().zip(&open.bytes_per_second) {
        let name = format!("KB a second to the page of {name}");
        let rate = format!("{:.1}", middle(bytes) / 1000.0);
        table.row(&[name, String::new(), rate]);
    }
    table
}
