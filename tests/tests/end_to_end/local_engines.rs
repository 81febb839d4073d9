//! Several engines of one machine, through its one proxy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use flotilla_testbed::{DockerEngine, EngineOptions, Image, Process, pull_all, wait_until};
use flotilla_tests::{Cluster, ClusterPlan};

use crate::probes;

const ENGINES: usize = 10;
/// What the registry sends as a whole for an image of one layer: that, and the configuration.
const BLOBS: u64 = 2;
const SLOW_RATE: &str = "1M";
/// For what a client at that rate has not taken yet, and all other buffers.
const MAX_MEMORY: u64 = 64 << 20;
const START_TIMEOUT: Duration = Duration::from_secs(30);

fn one_node() -> Result<Cluster> {
    Cluster::start(ClusterPlan {
        nodes: 1,
        ..ClusterPlan::default()
    })
}

/// Lets so many engines run on the only node, each with a store of its own.
fn start_engines(cluster: &mut Cluster, count: usize) -> Result<()> {
    let options = EngineOptions::proxied(&cluster.registry);
    let node = cluster.nodes.first().context("no node")?;
    let more: Result<Vec<_>> = (cluster.engines.len()..count)
        .map(|number| DockerEngine::start(node, &format!("docker-{number}"), &options))
        .collect();
    for mut engine in more? {
        engine.wait_ready()?;
        engine.login(&cluster.registry.address(), cluster.registry.login())?;
        cluster.engines.push(engine);
    }
    Ok(())
}

fn image_of_one_layer(cluster: &mut Cluster, size: u64) -> Result<Image> {
    let layer = cluster.images.random_layer(size)?;
    cluster.images.image(&[layer])
}

#[test]
fn ten_engines_of_one_machine_are_one_download() -> Result<()> {
    let mut cluster = one_node()?;
    start_engines(&mut cluster, ENGINES)?;
    let image = image_of_one_layer(&mut cluster, 32 << 20)?;
    let reference = image.push(&cluster.registry, "demo/app", "1")?;
    let before = cluster.registry.traffic()?;

    pull_all(&cluster.engines, &reference)?;

    let ids = cluster.image_ids(&reference)?;
    assert_eq!(ids, vec![image.id.clone(); ENGINES]);
    let moved = cluster.registry.traffic()?.since(&before);
    assert_eq!(moved.whole, BLOBS, "{moved:?}");
    let most = image.blob_bytes + probes(10, &image);
    assert!(moved.bytes <= most, "{} bytes of {most}", moved.bytes);
    Ok(())
}

/// `curl` through the node's proxy.
fn curl(cluster: &Cluster, image: &Image, output: &Path) -> Command {
    let (login, layer) = (cluster.registry.login(), &image.layers[0]);
    let mut command = cluster.nodes[0].service("curl");
    command.args(["--silent", "--show-error", "--fail", "--output"]);
    command.arg(output);
    command.args(["--proxy", "http://127.0.0.1:65001", "--user"]);
    command.arg(format!("{}:{}", login.user, login.password));
    let registry = cluster.registry.address();
    command.arg(format!(
        "http://{registry}/v2/demo/app/blobs/{}",
        layer.digest
    ));
    command
}

fn length_of(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |file| file.len())
}

#[test]
fn a_client_at_one_megabyte_a_second_slows_no_other_client_and_costs_bounded_memory() -> Result<()>
{
    let mut cluster = one_node()?;
    start_engines(&mut cluster, 3)?;
    let first = image_of_one_layer(&mut cluster, 96 << 20)?;
    let second = image_of_one_layer(&mut cluster, 96 << 20)?;
    let undisturbed = first.push(&cluster.registry, "demo/app", "1")?;
    let disturbed = second.push(&cluster.registry, "demo/app", "2")?;
    let alone = pull_all(&cluster.engines, &undisturbed)?;
    let proxy = &cluster.proxies[0].process;
    let (resident, peak) = (proxy.memory()?, proxy.peak_memory()?);

    let scratch = |name| -> PathBuf { cluster.testbed.directory().join(name) };
    let taken = scratch("slow");
    let mut command = curl(&cluster, &second, &taken);
    command.args(["--limit-rate", SLOW_RATE]);
    let mut slow = Process::start("slow-curl", cluster.testbed.directory(), command)?;
    wait_until("the slow client has its first bytes", START_TIMEOUT, || {
        Ok((length_of(&taken) > 0).then_some(()))
    })?;
    let beside = pull_all(&cluster.engines, &disturbed)?;

    println!("{alone:?} without the slow client, {beside:?} beside it");
    let has = length_of(&taken);
    assert!(slow.is_running(), "the slow client is under way");
    assert!(
        has < second.layers[0].size / 4,
        "the others had to wait until the slow client had {has} bytes"
    );
    let proxy = &cluster.proxies[0].process;
    let grown = proxy.memory()?.saturating_sub(resident);
    let peak = proxy.peak_memory()?.saturating_sub(peak);
    println!("the proxy holds {grown} bytes more, {peak} at its peak");
    assert!(grown < MAX_MEMORY && peak < MAX_MEMORY, "{grown}, {peak}");

    // Right so far, too.
    let whole = scratch("whole");
    let mut fast = Process::start(
        "fast-curl",
        cluster.testbed.directory(),
        curl(&cluster, &second, &whole),
    )?;
    assert!(
        fast.wait_exit(START_TIMEOUT)?.success(),
        "{}",
        fast.errors()
    );
    slow.kill()?;
    let (whole, taken) = (fs::read(whole)?, fs::read(taken)?);
    assert_eq!(whole.len() as u64, second.layers[0].size);
    assert!(whole.starts_with(&taken));
    Ok(())
}
