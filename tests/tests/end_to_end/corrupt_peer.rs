//! A peer whose disk has gone bad serves wrong bytes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Result, ensure};
use flotilla_tests::{Cluster, ClusterPlan};

use crate::LAYERS;

/// A layer's data, as opposed to its records.
const DATA_FILE: u64 = 1 << 20;
const STRIDE: usize = 4096;
const ONE_BLOCK: u64 = 16 << 10;

/// Inverts a byte of every 4 KiB in the large files below `directory`, under the feet of the
/// program that serves them, and without a trace in the files' times, as disks do it; the number
/// of files.
fn rot(directory: &Path) -> Result<usize> {
    let mut rotten = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            rotten += rot(&path)?;
        } else if path.metadata()?.len() >= DATA_FILE {
            let mut content = fs::read(&path)?;
            content
                .iter_mut()
                .step_by(STRIDE)
                .for_each(|byte| *byte = !*byte);
            let file = File::options().write(true).open(&path)?;
            let modified = file.metadata()?.modified()?;
            file.write_all_at(&content, 0)?;
            file.set_modified(modified)?;
            rotten += 1;
        }
    }
    Ok(rotten)
}

#[test]
fn layers_complete_although_a_peer_serves_corrupt_pieces() -> Result<()> {
    let mut cluster = Cluster::start(ClusterPlan {
        nodes: 3,
        ..ClusterPlan::default()
    })?;
    let image = cluster.images.image_of(&LAYERS)?;
    let reference = image.push(&cluster.registry, "demo/app", "1")?;
    cluster.engines[0].pull(&reference)?;
    let rotten = rot(&cluster.nodes[0].directory().join("node"))?;
    ensure!(rotten >= 4, "only {rotten} data files found on the node");
    let registry_before = cluster.registry.traffic()?;
    let peer_before = cluster.nodes[0].interface_bytes()?;

    flotilla_testbed::pull_all(&cluster.engines[1..], &reference)?;

    let expected = cluster.engines[0].image_id(&reference)?;
    for engine in &cluster.engines[1..] {
        assert_eq!(engine.image_id(&reference)?, expected);
    }
    let moved = cluster.registry.traffic()?.since(&registry_before).bytes;
    assert!(
        moved < image.blob_bytes / 4,
        "the registry sent {moved} bytes again"
    );
    // It is asked, and shunned after a few bad pieces: far from what two nodes would take from it.
    let sent = cluster.nodes[0].interface_bytes()?.since(peer_before).sent;
    let image_bytes = image.blob_bytes;
    assert!(
        (ONE_BLOCK..image_bytes / 3).contains(&sent),
        "the corrupt peer sent {sent} bytes, the image has {image_bytes}"
    );
    Ok(())
}
