//! A layer that has left to make room.

use std::path::Path;

use super::cluster::{Cluster, DEADLINE, Registry, read};

/// Files below `dir` that are deleted and still open in this process: they take room on the disk.
fn deleted_and_open(dir: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    let gone = targets
        .filter(|path| path.starts_with(dir) && path.to_string_lossy().ends_with("data (deleted)"));
    gone.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_a_node_has_evicted_takes_no_room_on_its_disk() {
    let mut cluster = Cluster::start(Registry::new(5 << 20)).await;
    let node = cluster.node().await;
    let layer = node.open(cluster.request()).await.unwrap();
    let (bytes, error) = read(&layer, 0).await;
    assert!(
        error.is_none() && bytes == cluster.registry.body,
        "{error:?}"
    );
    layer.completed().await.unwrap();
    let dir = cluster.dirs[1].path();
    let swarm = layer.swarm().unwrap().swarm();
    let content = layer.swarm().unwrap().content().clone();
    drop(layer);
    node.engine().store().remove_used(&content).unwrap();
    node.engine().leave(&swarm);
    // Long before the next announce of a seeder, which is a minute away.
    let freed = async {
        while deleted_and_open(dir) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE / 6, freed)
        .await
        .expect("freed at once");
}
