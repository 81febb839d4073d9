//! A private image, pulled by many engines at once.

use anyhow::Result;
use flotilla_bench::{Image, LinkRate, pull_all};
use flotilla_tests::{Cluster, ClusterPlan};

use crate::{LAYERS, probes};

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
