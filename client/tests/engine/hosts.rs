//! Hosts with an engine each on loopback, and content for them.

use std::time::Duration;

use bytes::Bytes;
use flotilla_client::{Engine, EngineConfig, OriginSwarm, SwarmHandle};
use flotilla_cluster::{SignedTicket, Ticket, TicketSigner};
use flotilla_torrents::{ContentId, Digest, DigestHasher, Geometry, InfoHash, PeerId};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Every wait of these tests ends by then.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const SOURCE: &str = "http://registry.test:5000";

pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) stop: CancellationToken,
    pub(crate) dir: TempDir,
}

impl Host {
    pub(crate) async fn start(signer: &TicketSigner) -> Self {
        Self::restart(signer, tempfile::tempdir().unwrap(), None).await
    }

    pub(crate) async fn restart(
        signer: &TicketSigner,
        dir: TempDir,
        upload_rate: Option<u64>,
    ) -> Self {
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

    pub(crate) async fn stop(self) -> TempDir {
        self.stop.cancel();
        self.engine.stopped().await;
        self.dir
    }
}

pub(crate) struct Layer {
    pub(crate) bytes: Bytes,
    pub(crate) content: ContentId,
    pub(crate) geometry: Geometry,
    pub(crate) sha256: Digest,
}

impl Layer {
    pub(crate) fn new(length: usize) -> Self {
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

    pub(crate) fn swarm(&self) -> InfoHash {
        InfoHash::of_swarm(&self.content, &self.geometry)
    }

    pub(crate) fn pieces(&self, range: std::ops::Range<u32>) -> impl Iterator<Item = Bytes> + '_ {
        self.geometry.pieces_in(range).map(|piece| {
            let range = self.geometry.piece_range(piece);
            self.bytes.slice(range.start as usize..range.end as usize)
        })
    }
}

pub(crate) fn ticket(signer: &TicketSigner, swarm: InfoHash, peer_id: PeerId) -> SignedTicket {
    signer.sign(&Ticket {
        swarm,
        peer_id,
        expires: u64::MAX,
    })
}

pub(crate) async fn origin(host: &Host, signer: &TicketSigner, layer: &Layer) -> OriginSwarm {
    let own = ticket(signer, layer.swarm(), host.engine.peer_id());
    let handle = host
        .engine
        .create_origin(&layer.content, layer.geometry, SOURCE, Some(own))
        .await
        .unwrap();
    handle.begin_ingest().unwrap()
}

pub(crate) async fn join(
    host: &Host,
    signer: &TicketSigner,
    layer: &Layer,
    peers: &[&Host],
) -> SwarmHandle {
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

pub(crate) async fn completed(handle: &SwarmHandle) {
    let mut status = handle.watch();
    let complete = status.wait_for(|status| status.complete);
    tokio::time::timeout(DEADLINE, complete)
        .await
        .expect("complete in time")
        .unwrap();
}

pub(crate) async fn publish(
    origin: &OriginSwarm,
    layer: &Layer,
    range: std::ops::Range<u32>,
    to: &[&SwarmHandle],
) {
    for (index, piece) in range.clone().zip(layer.pieces(range)) {
        origin.publish(piece.into()).await.unwrap();
        for handle in to {
            handle
                .publish_hashes(index, origin.handle().hashes_from(index))
                .await
                .unwrap();
        }
    }
}
