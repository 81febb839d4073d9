//! Many nodes get one file at once, everything cold.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use flotilla_testbed::{
    Flotilla, Get, GetOptions, Host, Lifetime, LinkRate, NginxOrigin, OriginTraffic, Process,
    Supernode, Table, Testbed, random_file, wait_until,
};

const FILE: &str = "file";
const MEBIBYTE: u64 = 1 << 20;
/// However slow a system is, it is not slower than each node's copy sent one after another.
const SLOWEST: u32 = 3;

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Number of nodes.
    #[arg(long, default_value_t = 20)]
    nodes: u16,
    /// Size of the file in MiB.
    #[arg(long, default_value_t = 64)]
    size: u64,
    /// Speed of every node's and the supernode's link, each way, in Mbit/s. The origin's is not limited.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// How long a node that has the file keeps seeding.
    #[arg(long, default_value = "600s")]
    seed_for: String,
    /// Copy the programs' logs into this directory before clearing up.
    #[arg(long)]
    logs: Option<std::path::PathBuf>,
}

/// What one run cost.
struct Outcome {
    completed: Vec<Duration>,
    cpu_seconds: f64,
    peak_memory: u64,
    supernode_sent: u64,
    supernode_received: u64,
    origin: OriginTraffic,
}

pub(crate) fn measure(arguments: &Arguments) -> Result<()> {
    ensure!(
        arguments.nodes > 0 && arguments.size > 0,
        "--nodes and --size must be at least 1"
    );
    let flotilla = Flotilla::find()?;
    let mut testbed = Testbed::create(Lifetime::Process)?;
    let origin_host = testbed.host("origin")?;
    let supernode_host = testbed.host("supernode")?;
    let nodes = (1..=arguments.nodes).map(|number| testbed.host(&format!("node{number}")));
    let nodes = nodes.collect::<Result<Vec<_>>>()?;
    let rate = LinkRate::megabits(arguments.rate);
    for host in nodes.iter().chain([&supernode_host]) {
        host.shape(rate)?;
    }
    let origin = NginxOrigin::start(&origin_host)?;
    let size = arguments.size * MEBIBYTE;
    random_file(&origin.files().join(FILE), size)?;

    let mut supernode = Supernode::start(&flotilla, &supernode_host)?;
    let bound = Duration::from_secs_f64(size as f64 / rate.bytes_per_second() as f64);
    let deadline = bound * u32::from(arguments.nodes) * SLOWEST + Duration::from_secs(60);
    let options = GetOptions {
        supernodes: vec![supernode.url().to_owned()],
        arguments: vec!["--seed-for".to_owned(), arguments.seed_for.clone()],
    };
    let outcome = run(
        &flotilla,
        &nodes,
        &options,
        &origin,
        &mut supernode.process,
        &supernode_host,
        deadline,
    );
    if let Some(directory) = &arguments.logs {
        copy_logs(directory, nodes.iter().chain([&supernode_host]))?;
    }
    let outcome = outcome?;
    verify_copies(&origin, &nodes)?;
    print!("{}", report(arguments, size, bound, &outcome));
    Ok(())
}

fn run(
    flotilla: &Flotilla,
    nodes: &[Host],
    options: &GetOptions,
    origin: &NginxOrigin,
    supernode: &mut Process,
    supernode_host: &Host,
    deadline: Duration,
) -> Result<Outcome> {
    let before = supernode_host.interface_bytes()?;
    let started = Instant::now();
    let gets = nodes
        .iter()
        .map(|node| Get::start(flotilla, node, &origin.url(FILE), options));
    let mut gets = gets.collect::<Result<Vec<_>>>()?;
    let completed = wait_complete(&mut gets, started, deadline)?;
    let passed = supernode_host.interface_bytes()?.since(before);
    let mut cpu_seconds = supernode.cpu_seconds()?;
    let mut peak_memory = supernode.peak_memory()?;
    for get in gets.iter().map(|get| &get.process) {
        // A node that has stopped seeding has left with its figures.
        cpu_seconds += get.cpu_seconds().unwrap_or_default();
        peak_memory = peak_memory.max(get.peak_memory().unwrap_or_default());
    }
    drop(gets);
    supernode.kill()?;
    Ok(Outcome {
        completed,
        cpu_seconds,
        peak_memory,
        supernode_sent: passed.sent,
        supernode_received: passed.received,
        origin: origin.traffic()?,
    })
}

/// When each node's file appeared, in the order they finished.
fn wait_complete(gets: &mut [Get], started: Instant, deadline: Duration) -> Result<Vec<Duration>> {
    let mut completed = vec![None; gets.len()];
    wait_until("every node has the file", deadline, || {
        for (get, at) in gets.iter_mut().zip(completed.iter_mut()) {
            if at.is_none() && get.is_complete() {
                *at = Some(started.elapsed());
            } else if at.is_none() && !get.process.is_running() {
                bail!(
                    "a get ended without its file: {}",
                    get.process.errors().trim()
                );
            }
        }
        Ok(completed.iter().all(Option::is_some).then_some(()))
    })?;
    let mut times: Vec<Duration> = completed.into_iter().flatten().collect();
    times.sort();
    Ok(times)
}

fn verify_copies(origin: &NginxOrigin, nodes: &[Host]) -> Result<()> {
    let expected = fs::read(origin.files().join(FILE))?;
    for node in nodes {
        let copy = node.directory().join("got");
        let content = fs::read(&copy).with_context(|| format!("cannot read {}", copy.display()))?;
        ensure!(
            content == expected,
            "{}: differs from the origin's file",
            copy.display()
        );
    }
    Ok(())
}

fn report(arguments: &Arguments, size: u64, bound: Duration, outcome: &Outcome) -> Table {
    let makespan = outcome.completed.last().copied().unwrap_or_default();
    let first = outcome.completed.first().copied().unwrap_or_default();
    let median = outcome
        .completed
        .get(outcome.completed.len() / 2)
        .copied()
        .unwrap_or_default();
    let delivered = size as f64 * f64::from(arguments.nodes);
    let copies = |bytes: u64| format!("{:.2}", bytes as f64 / size as f64);
    let title = format!(
        "{} MiB to {} nodes, {} Mbit/s each way",
        arguments.size, arguments.nodes, arguments.rate
    );
    let mut table = Table::new(&[title.as_str(), ""]);
    let seconds = |duration: Duration| format!("{:.2}", duration.as_secs_f64());
    #[rustfmt::skip]
    let rows = [
        ("makespan, s", seconds(makespan)),
        ("lower bound, s", seconds(bound)),
        ("makespan / bound", format!("{:.2}", makespan.as_secs_f64() / bound.as_secs_f64())),
        ("first and median node, s", format!("{}, {}", seconds(first), seconds(median))),
        ("origin sent, x file", copies(outcome.origin.bytes)),
        ("origin transfers / requests", format!("{} / {}", outcome.origin.transfers, outcome.origin.requests)),
        ("supernode received, x file (interface)", copies(outcome.supernode_received)),
        ("supernode sent, x file (interface)", copies(outcome.supernode_sent)),
        ("CPU s, all flotilla processes", format!("{:.1}", outcome.cpu_seconds)),
        ("CPU s per GB delivered", format!("{:.1}", outcome.cpu_seconds / (delivered / 1e9))),
        ("peak memory of one process, MB", format!("{:.0}", outcome.peak_memory as f64 / 1e6)),
    ];
    for (name, value) in rows {
        table.row(&[name.to_owned(), value]);
    }
    table
}

fn copy_logs<'a>(directory: &std::path::Path, hosts: impl Iterator<Item = &'a Host>) -> Result<()> {
    fs::create_dir_all(directory).context("cannot create the directory for logs")?;
    for host in hosts {
        for entry in fs::read_dir(host.directory())?.flatten() {
            let path = entry.path();
            let is_log = path
                .extension()
                .is_some_and(|end| end == "out" || end == "err");
            if let (true, Some(name)) = (is_log, path.file_name()) {
                let target = format!("{}-{}", host.name(), name.display());
                fs::copy(&path, directory.join(target)).context("cannot copy a log")?;
            }
        }
    }
    Ok(())
}
