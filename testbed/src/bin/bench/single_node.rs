//! One node's cold pull: through proxy and supernode against straight from the registry.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use flotilla_testbed::{
    DockerEngine, EngineOptions, Flotilla, Host, ImageBuilder, Lifetime, LinkRate, NodeProxy,
    ProxyOptions, Registry, Supernode, Table, Testbed,
};

use crate::statistics::{all, median};

const MEBIBYTE: u64 = 1 << 20;
/// How the image's size is split into layers, in percent.
const LAYER_SHARES: [u64; 5] = [40, 25, 20, 10, 5];

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Size of the image in MiB, compressed.
    #[arg(long, default_value_t = 100)]
    size: u64,
    /// Speed of every link, each way, in Mbit/s.
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// How often each way is measured; the medians are compared.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

pub(crate) fn measure(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.rounds > 0, "--rounds 0: at least one is needed");
    let flotilla = Flotilla::find()?;
    let mut testbed = Testbed::create(Lifetime::Process)?;
    let registry_host = testbed.host("registry")?;
    let supernode_host = testbed.host("supernode")?;
    let node = testbed.host("node")?;
    let registry = Registry::start(&registry_host)?;
    let mut builder = ImageBuilder::new(&testbed.directory().join("image"))?;
    let sizes = LAYER_SHARES.map(|share| arguments.size * MEBIBYTE * share / 100);
    let image = builder.image_of(&sizes)?;
    let reference = image.push(&registry, "demo/app", "1")?;
    for host in [&registry_host, &supernode_host, &node] {
        host.shape(LinkRate::megabits(arguments.rate))?;
    }
    let mut direct = Vec::new();
    let mut swarm = Vec::new();
    for _ in 0..arguments.rounds {
        direct.push(cold_pull(
            &node,
            &registry,
            &EngineOptions::direct(&registry),
            &reference,
        )?);
        let supernode = Supernode::start(&flotilla, &supernode_host)?;
        let options = ProxyOptions::with_supernodes(&[supernode.url()]);
        let proxy = NodeProxy::start(&flotilla, &node, &options)?;
        swarm.push(cold_pull(
            &node,
            &registry,
            &EngineOptions::proxied(&registry),
            &reference,
        )?);
        drop((proxy, supernode));
        for (host, data) in [(&supernode_host, "supernode"), (&node, "node")] {
            std::fs::remove_dir_all(host.directory().join(data))?;
        }
    }
    let title = format!(
        "cold pull of {} MB by one node, {} Mbit/s",
        image.blob_bytes / 1_000_000,
        arguments.rate
    );
    let mut table = Table::new(&[title.as_str(), "median s", "all"]);
    let (direct_median, swarm_median) = (median(&direct), median(&swarm));
    table.row(&[
        "registry".to_owned(),
        format!("{direct_median:.2}"),
        all(&direct),
    ]);
    table.row(&[
        "through proxy and supernode".to_owned(),
        format!("{swarm_median:.2}"),
        all(&swarm),
    ]);
    table.row(&[
        "ratio".to_owned(),
        format!("{:.3}", swarm_median / direct_median),
        String::new(),
    ]);
    print!("{table}");
    Ok(())
}

fn cold_pull(
    node: &Host,
    registry: &Registry,
    options: &EngineOptions,
    reference: &str,
) -> Result<Duration> {
    let mut engine = DockerEngine::start(node, "docker", options)?;
    engine.wait_ready()?;
    engine.login(&registry.address(), registry.login())?;
    let took = engine.pull(reference)?;
    engine.discard()?;
    Ok(took)
}
