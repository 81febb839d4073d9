//! One answer of the registry has wrong bytes.

use std::time::Duration;

use flotilla_client::{Layer, ReadError, SwarmState};
use futures_util::StreamExt as _;

use super::cluster::{Cluster, DEADLINE, Fault, Registry, read};

/// One or more whole pieces.
const PIECE: usize = 256 * 1024;

async fn void(layer: &Layer) {
    let mut status = layer.swarm().unwrap().watch();
    let void = status.wait_for(|status| matches!(status.state, SwarmState::Void(_)));
    tokio::time::timeout(DEADLINE, void).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_read_the_wrong_piece_gets_everything_before_it_and_the_next_pull_is_right() {
    let wrong = 5 * PIECE + 7;
    let registry = Registry::new(12 * PIECE)
        .pausing(Duration::from_millis(2))
        .failing(&[Fault::WrongByte(wrong)]);
    let mut cluster = Cluster::start(registry).await;
    let (slow, fast) = (cluster.node().await, cluster.node().await);
    let layer = slow.open(cluster.request()).await.unwrap();
    let mut reader = layer.read(0..layer.length());
    let first = tokio::time::timeout(DEADLINE, reader.next()).await.unwrap();
    let mut right = first.unwrap().unwrap().to_vec();
    // A reader that stops within the wrong piece.
    let other = fast.open(cluster.request()).await.unwrap();
    let mut past = other.read(0..other.length());
    while past.position() <= (5 * PIECE) as u64 {
        let part = tokio::time::timeout(DEADLINE, past.next()).await.unwrap();
        part.unwrap().unwrap();
    }
    void(&layer).await;
    void(&other).await;

    let ended = loop {
        match tokio::time::timeout(DEADLINE, reader.next()).await.unwrap() {
            Some(Ok(part)) => right.extend_from_slice(&part),
            ended => break ended,
        }
    };
    assert!(matches!(ended, Some(Err(ReadError::Void(_)))), "{ended:?}");
    assert_eq!(right.len(), 5 * PIECE);
    assert!(right == cluster.registry.body[..5 * PIECE]);
    let ended = past.next().await;
    let geometry = other.swarm().unwrap().geometry();
    let first_wrong = geometry.piece_at(wrong as u64);
    assert!(
        matches!(&ended, Some(Err(ReadError::Wrong { piece, .. })) if Some(*piece) == first_wrong),
        "{ended:?}"
    );

    let again = slow.open(cluster.request()).await.unwrap();
    let (bytes, error) = read(&again, 0).await;
    assert!(
        error.is_none() && bytes == cluster.registry.body,
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_whose_every_answer_is_wrong_makes_the_swarm_void_and_no_more() {
    let fault = Fault::WrongByte(5 * PIECE + 7);
    let mut cluster = Cluster::start(Registry::new(8 * PIECE).failing(&[fault; 2])).await;
    let node = cluster.node().await;
    let layer = node.open(cluster.request()).await.unwrap();
    void(&layer).await;
    assert_eq!(layer.swarm().unwrap().first_wrong(), None);
    assert!(cluster.copies() <= 2.0, "{}", cluster.copies());
}
