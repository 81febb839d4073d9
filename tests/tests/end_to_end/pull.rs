//! A private image, pulled by many engines at once.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use flotilla_testbed::{Image, LinkRate, NodeProxy, ProxyOptions, pull_all};
use flotilla_tests::{Cluster, ClusterPlan};

use crate::{LAYERS, probes};

/// For layers of a few megabytes.
const SEED_TIMEOUT: Duration = Duration::from_secs(60);

fn assert_all_equal(ids: &[String]) {
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
}

fn five_cold_pulls_move_one_copy(plan: ClusterPlan) -> Result<()> {
    let mut cluster = Cluster::start(plan)?;
    let image = cluster.images.image_of(&LAYERS)?;
    let reference = image.push(&cluster.registry, "demo/app", "1")?;
    let before = cluster.registry.traffic()?;

    pull_all(&cluster.engines, &reference)?;

    assert_all_equal(&cluster.image_ids(&reference)?);
    let moved = cluster.registry.traffic()?.since(&before);
    assert_one_copy(moved.bytes, &image);
    Ok(())
}

fn assert_one_copy(bytes: u64, image: &Image) {
    let most = image.blob_bytes + probes(5, image);
    assert!(
        (image.blob_bytes..=most).contains(&bytes),
        "{bytes} bytes left the registry for an image of {}",
        image.blob_bytes
    );
}

#[test]
fn five_simultaneous_cold_pulls_take_each_layer_from_the_registry_once() -> Result<()> {
    five_cold_pulls_move_one_copy(ClusterPlan {
        rate: Some(LinkRate::megabits(200)),
        ..ClusterPlan::default()
    })
}

#[test]
fn two_supernodes_together_take_each_layer_from_the_registry_once() -> Result<()> {
    five_cold_pulls_move_one_copy(ClusterPlan {
        supernodes: 2,
        ..ClusterPlan::default()
    })
}

#[test]
fn a_push_through_the_proxy_is_what_the_others_pull() -> Result<()> {
    let mut cluster = Cluster::start(ClusterPlan {
        nodes: 3,
        ..ClusterPlan::default()
    })?;
    let image = cluster.images.image_of(&LAYERS)?;
    let reference = format!("{}/demo/pushed:1", cluster.registry.address());
    cluster.engines[0].load(&image.archive(&reference)?)?;
    cluster.engines[0].push(&reference)?;

    pull_all(&cluster.engines[1..], &reference)?;

    assert_all_equal(&cluster.image_ids(&reference)?);
    Ok(())
}

/// Layers of a node that are complete, verified and recorded.
fn complete_layers(directory: &Path) -> Result<usize> {
    let mut complete = 0;
    for layer in std::fs::read_dir(directory)? {
        let record = std::fs::read_to_string(layer?.path().join("layer.json"));
        complete += usize::from(record.is_ok_and(|record| record.contains("\"sealed\"")));
    }
    Ok(complete)
}

#[test]
fn pushed_layers_seed_before_anybody_pulls_them() -> Result<()> {
    let mut cluster = Cluster::start(ClusterPlan {
        nodes: 3,
        ..ClusterPlan::default()
    })?;
    let mut options = ProxyOptions::with_supernodes(&[cluster.supernodes[0].url()]);
    options.arguments = vec!["--seed-pushed".to_owned()];
    cluster.proxies[0].process.kill()?;
    cluster.proxies[0] = NodeProxy::start(&cluster.flotilla, &cluster.nodes[0], &options)?;
    let image = cluster.images.image_of(&LAYERS)?;
    let reference = format!("{}/demo/pushed:1", cluster.registry.address());
    cluster.engines[0].load(&image.archive(&reference)?)?;
    cluster.engines[0].push(&reference)?;
    // The engine has compressed the layers anew: their digests are not those of the image.
    let blobs = image.layers.len() + 1;
    let kept = cluster.nodes[0].directory().join("node/layers");
    let given = cluster.supernode_hosts[0].directory();
    let given = given.join("supernode/layers");
    flotilla_testbed::wait_until("node and supernode have the layers", SEED_TIMEOUT, || {
        let both = [complete_layers(&kept)?, complete_layers(&given)?];
        Ok((both == [blobs; 2]).then_some(()))
    })?;
    let seeded = cluster.registry.traffic()?;

    pull_all(&cluster.engines[1..], &reference)?;

    assert_all_equal(&cluster.image_ids(&reference)?);
    let moved = cluster.registry.traffic()?.since(&seeded).bytes;
    assert!(moved <= probes(3, &image), "{moved} bytes moved again");
    Ok(())
}

#[test]
fn a_second_image_that_shares_layers_moves_only_the_new_ones() -> Result<()> {
    let mut cluster = Cluster::start(ClusterPlan {
        nodes: 3,
        ..ClusterPlan::default()
    })?;
    let first = cluster.images.image_of(&LAYERS)?;
    let mut layers = first.layers[..3].to_vec();
    layers.push(cluster.images.layer(3 << 20)?);
    let second = cluster.images.image(&layers)?;
    let first_reference = first.push(&cluster.registry, "demo/app", "1")?;
    let second_reference = second.push(&cluster.registry, "demo/app", "2")?;
    pull_all(&cluster.engines, &first_reference)?;
    let before = cluster.registry.traffic()?;

    pull_all(&cluster.engines, &second_reference)?;

    assert_all_equal(&cluster.image_ids(&second_reference)?);
    let shared: u64 = first.layers[..3].iter().map(|layer| layer.size).sum();
    let new = second.blob_bytes - shared;
    let moved = cluster.registry.traffic()?.since(&before).bytes;
    let most = new + probes(3, &second);
    assert!(
        (new..=most).contains(&moved),
        "{moved} bytes for {new} new ones"
    );
    Ok(())
}

#[test]
fn a_node_that_pulls_later_finds_every_layer_at_its_peers() -> Result<()> {
    let mut cluster = Cluster::start(ClusterPlan::default())?;
    let image = cluster.images.image_of(&LAYERS)?;
    let reference = image.push(&cluster.registry, "demo/app", "1")?;
    let (late, early) = cluster.engines.split_last().unwrap();
    pull_all(early, &reference)?;
    let before = cluster.registry.traffic()?;

    late.pull(&reference)?;

    assert_all_equal(&cluster.image_ids(&reference)?);
    let moved = cluster.registry.traffic()?.since(&before).bytes;
    assert!(
        moved <= probes(1, &image),
        "the registry sent {moved} bytes again"
    );
    Ok(())
}

#[test]
fn the_same_image_under_another_name_is_authorized_under_that_name() -> Result<()> {
    let mut cluster = Cluster::start(ClusterPlan {
        nodes: 2,
        ..ClusterPlan::default()
    })?;
    let image = cluster.images.image_of(&LAYERS)?;
    let one = image.push(&cluster.registry, "demo/one", "1")?;
    let other = image.push(&cluster.registry, "demo/other", "1")?;
    cluster.engines[0].pull(&one)?;
    let before = cluster.registry.traffic()?;

    cluster.engines[1].pull(&other)?;

    let moved = cluster.registry.traffic()?.since(&before);
    assert!(
        moved.bytes <= probes(2, &image),
        "{} bytes moved again",
        moved.bytes
    );
    assert!(moved.requests > 0, "the registry was not asked");
    Ok(())
}
