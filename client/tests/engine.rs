//! Swarms of real engines on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flotilla_client::torrent_swarm::{
    DownloadError, DownloadOptions, Output, SwarmOptions, TorrentSource, download,
};
use flotilla_client::{
    Engine, EngineConfig, OpenToStrangersError, OriginSwarm, PathFilter, SwarmHandle,
};
use flotilla_torrents::peer_wire::Handshake;
use flotilla_torrents::{
    ContentId, Digest, DigestHasher, Geometry, InfoHash, Metainfo, PeerId, SignedTicket, Ticket,
    TicketSigner,
};
use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Every wait of these tests ends by then.
const DEADLINE: Duration = Duration::from_secs(60);
const SOURCE: &str = "http://registry.test:5000";

struct Host {
    engine: Engine,
    stop: CancellationToken,
    dir: TempDir,
}

impl Host {
    async fn start(signer: &TicketSigner) -> Self {
        Self::restart(signer, tempfile::tempdir().unwrap(), None).await
    }

    async fn restart(signer: &TicketSigner, dir: TempDir, upload_rate: Option<u64>) -> Self {
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = EngineConfig {
            data_dir: dir.path().to_owned(),
            cache_quota: 1 << 30,
            upload_rate,
            download_rate: None,
        };
        let engine = Engine::start(&config, listener, stop.clone()).unwrap();
        engine.trust_tickets_of(signer.public_key());
        Self { engine, stop, dir }
    }

    async fn stop(self) -> TempDir {
        self.stop.cancel();
        self.engine.stopped().await;
        self.dir
    }
}

struct Layer {
    bytes: Bytes,
    content: ContentId,
    geometry: Geometry,
    sha256: Digest,
}

impl Layer {
    fn new(length: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let bytes: Bytes = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .take(length)
        .collect();
        let sha256 = DigestHasher::sha256_of(&bytes);
        let geometry = Geometry::for_length(length as u64).unwrap();
        Self {
            content: ContentId::blob(&sha256),
            bytes,
            geometry,
            sha256,
        }
    }

    fn swarm(&self) -> InfoHash {
        InfoHash::of_swarm(&self.content, &self.geometry)
    }

    fn pieces(&self, range: std::ops::Range<u32>) -> impl Iterator<Item = Bytes> + '_ {
        self.geometry.pieces_in(range).map(|piece| {
            let range = self.geometry.piece_range(piece);
            self.bytes.slice(range.start as usize..range.end as usize)
        })
    }
}

fn ticket(signer: &TicketSigner, swarm: InfoHash, peer_id: PeerId) -> SignedTicket {
    signer.sign(&Ticket {
        swarm,
        peer_id,
        expires: u64::MAX,
    })
}

async fn origin(host: &Host, signer: &TicketSigner, layer: &Layer) -> OriginSwarm {
    let own = ticket(signer, layer.swarm(), host.engine.peer_id());
    let handle = host
        .engine
        .create_origin(&layer.content, layer.geometry, SOURCE, Some(own))
        .await
        .unwrap();
    handle.begin_ingest().unwrap()
}

async fn join(host: &Host, signer: &TicketSigner, layer: &Layer, peers: &[&Host]) -> SwarmHandle {
    let handle = host
        .engine
        .join(&layer.content, layer.geometry, SOURCE)
        .await
        .unwrap();
    handle.set_ticket(ticket(signer, layer.swarm(), host.engine.peer_id()));
    handle
        .add_peers(peers.iter().map(|peer| peer.engine.listen_addr()).collect())
        .await;
    handle
}

async fn completed(handle: &SwarmHandle) {
    let mut status = handle.watch();
    let complete = status.wait_for(|status| status.complete);
    tokio::time::timeout(DEADLINE, complete)
        .await
        .expect("complete in time")
        .unwrap();
}

async fn publish(
    origin: &OriginSwarm,
    layer: &Layer,
    range: std::ops::Range<u32>,
    to: &[&SwarmHandle],
) {
    for (index, piece) in range.clone().zip(layer.pieces(range)) {
        origin.publish(piece).await.unwrap();
        for handle in to {
            handle
                .publish_hashes(index, origin.handle().hashes_from(index))
                .await
                .unwrap();
        }
    }
}

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
    let first = tokio::time::timeout(DEADLINE, read_all(&handle, 0..256 * 1024))
        .await
        .unwrap();
    assert_eq!(first, layer.bytes.slice(..256 * 1024));
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
async fn who_only_knows_the_swarm_s_name_comes_by_no_ticket() {
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
        layer.bytes.len() as u64 - u64::from(half) * 256 * 1024
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_let_in_by_the_info_hash_once_the_swarm_is_opened_to_them() {
    let (signer, _) = TicketSigner::generate().unwrap();
    let layer = Layer::new(2 << 20);
    let supernode = Host::start(&signer).await;
    let origin = origin(&supernode, &signer, &layer).await;
    publish(&origin, &layer, 0..layer.geometry.piece_count(), &[]).await;
    let torrent = origin.handle().piece_map().seal("layer", &[], &[]).unwrap();
    let incomplete = supernode
        .engine
        .open_to_strangers(origin.handle(), &torrent);
    assert!(matches!(
        incomplete,
        Err(OpenToStrangersError::Incomplete(_))
    ));
    origin.seal(layer.sha256.clone()).await;
    completed(origin.handle()).await;
    let get = async |patience: Duration| {
        let target = tempfile::tempdir().unwrap();
        let options = DownloadOptions {
            source: TorrentSource::Metainfo(Box::new(torrent.clone())),
            filter: PathFilter::default(),
            output: Output::In(target.path().to_owned()),
            swarm: SwarmOptions {
                peer_listen: "127.0.0.1:0".parse().unwrap(),
                peers: vec![supernode.engine.listen_addr()],
                ..SwarmOptions::default()
            },
            patience: Some(patience),
            seed_for: None,
            seed_ratio: None,
        };
        let progress = Default::default();
        let got = download(options, &progress, CancellationToken::new()).await?;
        Ok::<_, DownloadError>(std::fs::read(got.path).unwrap())
    };
    let closed = get(Duration::from_secs(1)).await;
    assert!(matches!(closed, Err(DownloadError::Stalled { .. })));
    supernode
        .engine
        .open_to_strangers(origin.handle(), &torrent)
        .unwrap();
    assert!(get(DEADLINE).await.unwrap() == layer.bytes);
    // By the swarm's own name nobody gets in without a ticket, as before.
    let (forger, _) = TicketSigner::generate().unwrap();
    let node = Host::start(&forger).await;
    let handle = join(&node, &forger, &layer, &[&supernode]).await;
    assert!(matches!(handle.read(0..1).next().await, Some(Err(_))));
    // Who has a ticket gets the layer beside them.
    let node = Host::start(&signer).await;
    let handle = join(&node, &signer, &layer, &[&supernode]).await;
    handle
        .publish_hashes(0, origin.handle().hashes_from(0))
        .await
        .unwrap();
    handle.sealed(layer.sha256.clone()).await;
    completed(&handle).await;
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
