//! `make demo`: five nodes pull one private image at once, first straight from the registry, then
//! through the swarm.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use flotilla_testbed::{
    BlobTraffic, DockerEngine, EngineOptions, Flotilla, Host, ImageBuilder, Lifetime, LinkRate,
    NodeProxy, ProxyOptions, Registry, Supernode, Table, Testbed, conclude, pull_all, stop_kept,
};

/// Compressed layer sizes, 309 MiB in all, one large layer and a tail of smaller ones.
const LAYERS: [u64; 6] = [96 << 20, 80 << 20, 60 << 20, 40 << 20, 25 << 20, 8 << 20];
/// The engines' directory on each node in the second half.
const SWARM_STORE: &str = "swarm";
const MEGABYTE: f64 = 1e6;

/// Shows the main job on one machine: a registry, a supernode, and nodes with shaped links and
/// real Docker engines.
#[derive(Debug, Parser)]
#[command(name = "flotilla-demo")]
struct Arguments {
    /// Number of nodes.
    #[arg(long, default_value_t = 5)]
    nodes: u16,
    /// Speed of every link, each way, in Mbit/s.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Leave the swarm running at the end and print its addresses.
    #[arg(long)]
    keep: bool,
    /// End what `--keep` left running, and do nothing else.
    #[arg(long)]
    stop: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    conclude(if arguments.stop {
        stop()
    } else {
        show(&arguments)
    })
}

fn stop() -> Result<()> {
    let stopped = stop_kept()?;
    println!(
        "stopped: {}",
        if stopped.is_empty() {
            "nothing was running".into()
        } else {
            stopped.join(", ")
        }
    );
    Ok(())
}

/// The machines of the demo.
struct Stage {
    testbed: Testbed,
    registry: Registry,
    supernode: Host,
    nodes: Vec<Host>,
}

/// One way of delivering the image to every node.
struct Delivery {
    seconds: Vec<Duration>,
    registry: BlobTraffic,
    image_ids: Vec<String>,
}

fn show(arguments: &Arguments) -> Result<()> {
    ensure!(
        arguments.nodes > 0,
        "--nodes 0: the demo needs at least one node"
    );
    stop_kept()?;
    let flotilla = Flotilla::find()?;
    let stage = Stage::build(arguments)?;
    let mut builder = ImageBuilder::new(&stage.testbed.directory().join("image"))?;
    println!(
        "Building an image of {} layers from this machine's files ...",
        LAYERS.len()
    );
    let image = builder.image_of(&LAYERS)?;
    let reference = image.push(&stage.registry, "demo/app", "1")?;
    println!(
        "  {reference}: {:.0} MB compressed, pushed",
        megabytes(image.blob_bytes)
    );

    println!(
        "Pulling it on {} nodes at once, straight from the registry ...",
        arguments.nodes
    );
    let engines = stage.engines("direct", &EngineOptions::direct(&stage.registry))?;
    let direct = stage.deliver(&engines, &reference)?;
    for engine in engines {
        engine.discard()?;
    }

    println!("The same through the swarm, everything cold ...");
    let supernode = Supernode::start(&flotilla, &stage.supernode)?;
    let options = ProxyOptions::with_supernodes(&[supernode.url()]);
    let proxies = stage
        .nodes
        .iter()
        .map(|node| NodeProxy::start(&flotilla, node, &options));
    let proxies = proxies.collect::<Result<Vec<_>>>()?;
    let engines = stage.engines(SWARM_STORE, &EngineOptions::proxied(&stage.registry))?;
    let supernode_before = stage.supernode.interface_bytes()?;
    let swarm = stage.deliver(&engines, &reference)?;
    let supernode_sent = stage
        .supernode
        .interface_bytes()?
        .since(supernode_before)
        .sent;

    println!();
    print!("{}", seconds_table(&stage.nodes, &direct, &swarm));
    println!();
    let count = u64::from(arguments.nodes);
    let totals = Totals {
        image: image.blob_bytes,
        delivered: image.blob_bytes * count,
        supernode_sent,
    };
    print!("{}", totals.table(&stage, &direct, &swarm));
    let ids_equal = ids_equal(&direct, &swarm);
    println!(
        "image id on every node: {}",
        if ids_equal { "equal" } else { "DIFFERENT" }
    );
    ensure!(
        ids_equal,
        "the nodes hold different images: {:?} {:?}",
        direct.image_ids,
        swarm.image_ids
    );
    if arguments.keep {
        return keep(stage, &flotilla, &supernode, &reference);
    }
    drop((engines, proxies, supernode));
    println!("Clearing up ...");
    drop(stage);
    Ok(())
}

impl Stage {
    fn build(arguments: &Arguments) -> Result<Self> {
        let lifetime = if arguments.keep {
            Lifetime::UntilStopped
        } else {
            Lifetime::Process
        };
        let mut testbed = Testbed::create(lifetime)?;
        let registry_host = testbed.host("registry")?;
        let supernode = testbed.host("supernode")?;
        let nodes = (1..=arguments.nodes).map(|number| testbed.host(&format!("node{number}")));
        let nodes = nodes.collect::<Result<Vec<_>>>()?;
        let rate = LinkRate::megabits(arguments.rate);
        for host in nodes.iter().chain([&registry_host, &supernode]) {
            host.shape(rate)?;
        }
        println!(
            "A registry with a login, a supernode and {} nodes, every link {} Mbit/s each way",
            arguments.nodes, arguments.rate
        );
        Ok(Self {
            registry: Registry::start(&registry_host)?,
            testbed,
            supernode,
            nodes,
        })
    }

    /// One new engine on each node, logged in at the registry.
    fn engines(&self, store: &str, options: &EngineOptions) -> Result<Vec<DockerEngine>> {
        let engines = self
            .nodes
            .iter()
            .map(|node| DockerEngine::start(node, store, options));
        let mut engines = engines.collect::<Result<Vec<_>>>()?;
        for engine in &mut engines {
            engine.wait_ready()?;
            engine.login(&self.registry.address(), self.registry.login())?;
        }
        Ok(engines)
    }

    fn deliver(&self, engines: &[DockerEngine], reference: &str) -> Result<Delivery> {
        let before = self.registry.traffic()?;
        let seconds = pull_all(engines, reference)?;
        let registry = self.registry.traffic()?.since(&before);
        let ids = engines.iter().map(|engine| engine.image_id(reference));
        Ok(Delivery {
            seconds,
            registry,
            image_ids: ids.collect::<Result<_>>()?,
        })
    }
}

fn ids_equal(direct: &Delivery, swarm: &Delivery) -> bool {
    let first = direct.image_ids.first();
    let mut all = direct.image_ids.iter().chain(&swarm.image_ids);
    all.all(|id| Some(id) == first)
}

fn seconds_table(nodes: &[Host], direct: &Delivery, swarm: &Delivery) -> Table {
    let mut table = Table::new(&["docker pull, seconds", "registry", "swarm"]);
    for ((node, direct), swarm) in nodes.iter().zip(&direct.seconds).zip(&swarm.seconds) {
        table.row(&[node.name().to_owned(), seconds(*direct), seconds(*swarm)]);
    }
    let last = |delivery: &Delivery| delivery.seconds.iter().max().copied().unwrap_or_default();
    table.row(&[
        "all nodes".to_owned(),
        seconds(last(direct)),
        seconds(last(swarm)),
    ]);
    table
}

/// Byte counts that do not depend on the way of delivery.
struct Totals {
    image: u64,
    delivered: u64,
    supernode_sent: u64,
}

impl Totals {
    /// Bytes from peers are what came neither from the registry (its log, by client) nor from the
    /// supernode (its interface, headers included: the share is slightly understated).
    fn table(&self, stage: &Stage, direct: &Delivery, swarm: &Delivery) -> Table {
        let supernode = IpAddr::V4(stage.supernode.address());
        let past_supernode = |delivery: &Delivery| {
            let clients = delivery.registry.bytes_by_client.iter();
            let nodes = clients.filter(|(client, _)| **client != supernode);
            nodes.map(|(_, bytes)| bytes).sum::<u64>()
        };
        let peers = |delivery: &Delivery, supernode_sent: u64| {
            let elsewhere = past_supernode(delivery) + supernode_sent;
            100.0 * self.delivered.saturating_sub(elsewhere) as f64 / self.delivered as f64
        };
        let copies = |delivery: &Delivery| delivery.registry.bytes as f64 / self.image as f64;
        let mut table = Table::new(&["bytes", "registry", "swarm"]);
        #[rustfmt::skip]
        let rows = [
            ("left the registry, MB", format!("{:.1}", megabytes(direct.registry.bytes)), format!("{:.1}", megabytes(swarm.registry.bytes))),
            ("left the registry, images", format!("{:.2}", copies(direct)), format!("{:.2}", copies(swarm))),
            ("left the supernode, MB", "-".to_owned(), format!("{:.1}", megabytes(self.supernode_sent))),
            ("came from peers", format!("{:.0} %", peers(direct, 0)), format!("{:.0} %", peers(swarm, self.supernode_sent))),
        ];
        for (name, direct, swarm) in rows {
            table.row(&[name.to_owned(), direct, swarm]);
        }
        table
    }
}

/// Leaves everything running: exits at once, so that nothing is dropped.
fn keep(
    mut stage: Stage,
    flotilla: &Flotilla,
    supernode: &Supernode,
    reference: &str,
) -> Result<()> {
    stage.testbed.keep()?;
    let login = stage.registry.login();
    let (variable, token) = flotilla.join_token();
    println!("\nLeft running:");
    println!(
        "  registry   {} (user {}, password {})",
        stage.registry.address(),
        login.user,
        login.password
    );
    println!("  image      {reference}");
    println!("  supernode  {} ({variable}={token})", supernode.url());
    for node in &stage.nodes {
        println!(
            "  {:<9}  {} (namespace {})",
            node.name(),
            node.address(),
            node.namespace_name()
        );
        let docker = node.directory().join(SWARM_STORE);
        println!(
            "             docker --config {0}/client -H unix://{0}/docker.sock",
            docker.display()
        );
    }
    println!("  logs       {}", stage.testbed.directory().display());
    let first = stage.nodes.first().context("no nodes")?;
    println!(
        "Run something on a node:  nsenter --net=/var/run/netns/{} COMMAND",
        first.namespace_name()
    );
    println!("Stop it all:              make demo-stop");
    std::process::exit(0);
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / MEGABYTE
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64())
}
