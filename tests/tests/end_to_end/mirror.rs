//! Engines that use the proxy as their registry's mirror.

use anyhow::Result;
use flotilla_testbed::{Containerd, NodeProxy, ProxyOptions};
use flotilla_tests::{Cluster, ClusterPlan};

use crate::{LAYERS, probes};

#[test]
fn containerd_takes_layers_from_the_swarm_through_its_mirror() -> Result<()> {
    let mut cluster = Cluster::start(ClusterPlan {
        nodes: 2,
        ..ClusterPlan::default()
    })?;
    let image = cluster.images.image_of(&LAYERS)?;
    let reference = image.push(&cluster.registry, "demo/app", "1")?;
    let mut options = ProxyOptions::with_supernodes(&[cluster.supernodes[0].url()]);
    let mirrored = format!("http://{}", cluster.registry.address());
    options.arguments = vec!["--mirror-host".to_owned(), mirrored];
    cluster.proxies[1].process.kill()?;
    cluster.proxies[1] = NodeProxy::start(&cluster.flotilla, &cluster.nodes[1], &options)?;
    let containerd = Containerd::start(&cluster.nodes[1], &cluster.registry)?;
    cluster.engines[0].pull(&reference)?;
    let before = cluster.registry.traffic()?;

    containerd.fetch(&reference, &cluster.registry)?;

    for layer in &image.layers {
        assert!(
            containerd.has(&layer.digest)?,
            "{} is missing",
            layer.digest
        );
    }
    // Neither through the mirror nor past it: the layers came from the other node.
    let moved = cluster.registry.traffic()?.since(&before).bytes;
    assert!(moved <= probes(1, &image), "{moved} bytes moved again");
    Ok(())
}
