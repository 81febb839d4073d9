//! Swarms of real engines on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod damage;
mod hosts;

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use flotilla_client::{OpenToStrangersError, SwarmHandle, SwarmState};
use flotilla_cluster::TicketSigner;
use flotilla_torrents::peer_wire::Handshake;
use flotilla_torrents::{Metainfo, PeerId};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use self::hosts::{DEADLINE, Host, Layer, completed, join, origin, publish};

async fn read_all(handle: &SwarmHandle, range: std::ops::Range<u64>) -> Bytes {
    let mut reader = handle.read(range);
    let mut bytes = BytesMut::new();
    while let Some(part) = reader.next().await {
        bytes.extend_from_slice(&part.unwrap());
    }
    bytes.freeze()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reads_the_first_piece_before_the_origin_has_the_second() {
    let (signer, _) = TicketSigner::generate().unwrap();
    let layer = Layer::new(3 << 20);
    let (supernode, node) = (Host::start(&signer).await, Host::start(&signer).await);
    let origin = origin(&supernode, &signer, &layer).await;
    let handle = join(&node, &signer, &layer, &[&supernode]).await;
    publish(&origin, &layer, 0..1, &[&handle]).await;
    let piece = layer.geometry.piece_length();
    let first = tokio::time::timeout(DEADLINE, read_all(&handle, 0..u64::from(piece)))
        .await
        .unwrap();
    assert_eq!(first, layer.bytes.slice(..piece as usize));
    assert_eq!(origin.published(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_get_the_layer_and_the_origin_sends_little_more_than_one_copy() {
    let (signer, _) = TicketSigner::generate().unwrap();
    let layer = Layer::new(32 << 20);
    let supernode = Host::restart(&signer, tempfile::tempdir().unwrap(), Some(20_000_000)).await;
    let origin = origin(&supernode, &signer, &layer).await;
    let mut nodes: Vec<Host> = Vec::new();
    let mut handles = Vec::new();
    for _ in 0..5 {
        let node = Host::start(&signer).await;
        let peers: Vec<&Host> = std::iter::once(&supernode).chain(&nodes).collect();
        handles.push(join(&node, &signer, &layer, &peers).await);
        nodes.push(node);
    }
    let to: Vec<&SwarmHandle> = handles.iter().collect();
    publish(&origin, &layer, 0..layer.geometry.piece_count(), &to).await;
    origin.seal(layer.sha256.clone()).await;
    for handle in &handles {
        handle.sealed(layer.sha256.clone()).await;
        completed(handle).await;
        assert_eq!(
            read_all(handle, 0..layer.bytes.len() as u64).await,
            layer.bytes
        );
    }
    let sent = origin.handle().counters().uploaded.load(Ordering::Relaxed);
    let copies = sent as f64 / layer.bytes.len() as f64;
    assert!(
        copies < 2.0,
        "the origin sent {copies:.2} copies for five nodes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_a_valid_ticket_learns_nothing() {
    let (signer, _) = TicketSigner::generate().unwrap();
    let (forger, _) = TicketSigner::generate().unwrap();
    let layer = Layer::new(1 << 20);
    let (supernode, node) = (Host::start(&signer).await, Host::start(&signer).await);
    let origin = origin(&supernode, &signer, &layer).await;
    let handle = join(&node, &forger, &layer, &[&supernode]).await;
    publish(&origin, &layer, 0..layer.geometry.piece_count(), &[&handle]).await;
    let reader = handle.read(0..1).next().await;
    assert!(matches!(reader, Some(Err(_))), "read {reader:?}");
    assert_eq!(handle.status().held, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn knowing_only_the_name_of_a_swarm_yields_no_ticket() {
    let (signer, _) = TicketSigner::generate().unwrap();
    let layer = Layer::new(1 << 20);
    let supernode = Host::start(&signer).await;
    let origin = origin(&supernode, &signer, &layer).await;
    let handshake = Handshake {
        info_hash: origin.handle().swarm(),
        peer_id: PeerId::from_random([7; 12]),
        extended: true,
        fast: true,
    };
    // Without a word of its own; with an extended handshake that has no ticket.
    for second in [&b""[..], &b"\0\0\0\x04\x14\x00de"[..]] {
        let mut stream = TcpStream::connect(supernode.engine.listen_addr())
            .await
            .unwrap();
        stream.write_all(&handshake.encode()).await.unwrap();
        stream.write_all(second).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(DEADLINE, read).await.unwrap();
        assert!(answer.len() <= Handshake::LENGTH, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_layer_survives_a_restart() {
    let (signer, _) = TicketSigner::generate().unwrap();
    let layer = Layer::new(8 << 20);
    let (supernode, node) = (Host::start(&signer).await, Host::start(&signer).await);
    let origin = origin(&supernode, &signer, &layer).await;
    let handle = join(&node, &signer, &layer, &[&supernode]).await;
    let half = layer.geometry.piece_count() / 2;
    publish(&origin, &layer, 0..half, &[&handle]).await;
    let mut status = handle.watch();
    let arrived = status.wait_for(|status| status.held >= half);
    tokio::time::timeout(DEADLINE, arrived)
        .await
        .unwrap()
        .unwrap();
    let node = Host::restart(&signer, node.stop().await, None).await;
    let handle = join(&node, &signer, &layer, &[&supernode]).await;
    assert_eq!(handle.status().held, half);
    handle
        .publish_hashes(0, origin.handle().hashes_from(0))
        .await
        .unwrap();
    publish(
        &origin,
        &layer,
        half..layer.geometry.piece_count(),
        &[&handle],
    )
    .await;
    handle.sealed(layer.sha256.clone()).await;
    completed(&handle).await;
    let downloaded = handle.counters().downloaded.load(Ordering::Relaxed);
    assert_eq!(
        downloaded,
        layer.bytes.len() as u64 - u64::from(half) * u64::from(layer.geometry.piece_length())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_is_not_opened_in_the_name_of_other_content() {
    let (signer, _) = TicketSigner::generate().unwrap();
    let layer = Layer::new(1 << 20);
    let supernode = Host::start(&signer).await;
    let origin = origin(&supernode, &signer, &layer).await;
    publish(&origin, &layer, 0..layer.geometry.piece_count(), &[]).await;
    origin.seal(layer.sha256.clone()).await;
    completed(origin.handle()).await;
    let mut hashes = origin.handle().hashes_from(0);
    hashes.reverse();
    let other = Metainfo::new("layer", layer.geometry, hashes, true, &[], &[]).unwrap();
    let refused = supernode.engine.open_to_strangers(origin.handle(), &other);
    assert!(matches!(
        refused,
        Err(OpenToStrangersError::OtherContent(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_whose_pieces_match_and_whose_whole_does_not_is_void() {
    let (signer, _) = TicketSigner::generate().unwrap();
    // The content says other bytes than the pieces: as if a piece hash had a collision.
    let other = Layer::new((4 << 20) + 1);
    let bytes = Layer::new(4 << 20);
    let layer = Layer {
        content: other.content,
        ..bytes
    };
    let (supernode, node) = (Host::start(&signer).await, Host::start(&signer).await);
    let origin = origin(&supernode, &signer, &layer).await;
    let handle = join(&node, &signer, &layer, &[&supernode]).await;
    publish(&origin, &layer, 0..layer.geometry.piece_count(), &[&handle]).await;
    handle.sealed(layer.sha256.clone()).await;
    let mut status = handle.watch();
    let void = status.wait_for(|status| matches!(status.state, SwarmState::Void(_)));
    let void = tokio::time::timeout(DEADLINE, void).await;
    assert!(!void.expect("void in time").unwrap().complete);
}
