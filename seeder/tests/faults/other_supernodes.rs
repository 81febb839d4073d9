//! A supernode that cannot bring a layer, beside one that can.

use super::cluster::{Cluster, Registry, read};

#[tokio::test(flavor = "multi_thread")]
async fn a_supernode_that_cannot_write_leaves_its_layers_to_the_next_one() {
    let mut cluster = Cluster::start(Registry::new(5 << 20)).await;
    let dirs = [cluster.dirs[0].path().to_owned(), cluster.supernode().await];
    let layers = dirs[cluster.responsible(&dirs)].join("layers");
    std::fs::remove_dir(&layers).unwrap();
    std::fs::write(&layers, "no directory").unwrap();
    for _ in 0..3 {
        let node = cluster.node().await;
        let layer = node.open(cluster.request()).await.unwrap();
        let (bytes, error) = read(&layer, 0).await;
        assert!(
            error.is_none() && bytes == cluster.registry.body,
            "{error:?}"
        );
    }
    // The first supernode asks for the length before it finds that it cannot write.
    assert!(cluster.copies() <= 2.0, "{} copies", cluster.copies());
}
