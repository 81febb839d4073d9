//! Programs that die. The engine must not notice.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use flotilla_testbed::{EngineOptions, LinkRate, pull_all};
use flotilla_tests::{Cluster, ClusterPlan};

use crate::LAYERS;

/// Slow enough that a pull has a middle.
const RATE: u32 = 50;
/// What a missing supernode may cost, by requirement.
const MAX_DELAY: Duration = Duration::from_secs(2);

fn slow_cluster(nodes: u16, supernodes: u16) -> Result<Cluster> {
    Cluster::start(ClusterPlan {
        nodes,
        supernodes,
        rate: Some(LinkRate::megabits(RATE)),
    })
}

/// Runs `disturb` when the first node has a third of the image, and waits for all pulls.
fn pull_disturbed(
    cluster: &mut Cluster,
    disturb: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<()> {
    let image = cluster.images.image_of(&LAYERS)?;
    let reference = image.push(&cluster.registry, "demo/app", "1")?;
    let engines = std::mem::take(&mut cluster.engines);
    let before = cluster.nodes[0].interface_bytes()?.received;
    let pulled = thread::scope(|scope| {
        let pulls = scope.spawn(|| pull_all(&engines, &reference));
        let first = cluster.nodes[0].clone();
        cluster.wait_received(&first, before, image.blob_bytes / 3)?;
        assert!(
            !pulls.is_finished(),
            "the pull was over before it was disturbed"
        );
        disturb(cluster)?;
        pulls.join().expect("the pulls do not panic")
    });
    cluster.engines = engines;
    pulled?;
    let ids = cluster.image_ids(&reference)?;
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
    Ok(())
}

#[test]
fn every_pull_completes_when_the_supernode_dies_in_the_middle() -> Result<()> {
    pull_disturbed(&mut slow_cluster(5, 1)?, |cluster| {
        cluster.supernodes[0].process.kill()
    })
}

#[test]
fn every_pull_completes_when_one_of_two_supernodes_dies_in_the_middle() -> Result<()> {
    pull_disturbed(&mut slow_cluster(5, 2)?, |cluster| {
        cluster.supernodes[0].process.kill()
    })
}

#[test]
fn every_pull_completes_when_a_peer_dies_in_the_middle() -> Result<()> {
    pull_disturbed(&mut slow_cluster(5, 1)?, |cluster| {
        cluster.proxies[4].process.kill()?;
        // As a service manager would; its own engine continues where it was.
        cluster.proxies[4] = cluster.start_proxy(4)?;
        Ok(())
    })
}

#[test]
fn a_pull_without_the_supernode_goes_at_the_registry_s_speed() -> Result<()> {
    let mut cluster = slow_cluster(1, 1)?;
    let image = cluster.images.image_of(&LAYERS)?;
    let reference = image.push(&cluster.registry, "demo/app", "1")?;
    let direct = cluster.start_engines("direct", &EngineOptions::direct(&cluster.registry))?;
    let direct = direct[0].pull(&reference)?;
    cluster.supernodes[0]
        .process
        .terminate(Duration::from_secs(20))?;

    let proxied = cluster.engines[0].pull(&reference)?;

    assert!(
        proxied <= direct + MAX_DELAY,
        "{proxied:?} through the proxy, {direct:?} without it"
    );
    Ok(())
}
