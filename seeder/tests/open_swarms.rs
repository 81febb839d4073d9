//! A real supernode, and strangers who know nothing but BitTorrent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use flotilla_client::peers::trackers::{TrackerError, TrackerTiers};
use flotilla_client::{ContentRequest, Node, NodeConfig};
use flotilla_cluster::{register_torrent, tracker_url, unregister_torrent};
use flotilla_seeder::{Supernode, SupernodeConfig};
use flotilla_torrents::tracker_wire::{
    AddressFamily, AnnounceEvent, AnnounceRequest, ConnectionId, ScrapeRequest, ScrapeResponse,
    TransactionId, UdpReply, UdpRequest,
};
use flotilla_torrents::{
    ContentId, Digest, DigestHasher, Geometry, InfoHash, Metainfo, PeerId, PieceHash, PieceMap,
};
use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;
use url::Url;

/// Every wait of these tests ends by then.
const DEADLINE: Duration = Duration::from_secs(60);
const TOKEN: &str = "a secret of this cluster";
const CREDENTIALS: &str = "Basic bGV0bWU6aW4=";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A layer of the registry.
fn layer(salt: u8) -> Vec<u8> {
    (0..2_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 ^ salt)
        .collect()
}

/// What its torrent has to be.
fn standard_torrent(bytes: &[u8]) -> Metainfo {
    let geometry = Geometry::for_length(bytes.len() as u64).unwrap();
    let mut map = PieceMap::new(geometry);
    for piece in bytes.chunks(geometry.piece_length() as usize) {
        map.push(PieceHash::of(piece)).unwrap();
    }
    let content = ContentId::blob(&DigestHasher::sha256_of(bytes));
    map.seal(&content.file_stem(), &[], &[]).unwrap()
}

/// Has the layers 1 and 3 in `private/app`, 2 and 3 in `public/app`, for those who log in.
async fn registry() -> SocketAddr {
    let answer = async |uri: Uri, headers: HeaderMap| {
        if headers
            .get(header::AUTHORIZATION)
            .is_none_or(|shown| shown != CREDENTIALS)
        {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let has: &[u8] = if uri.path().starts_with("/v2/public/app/blobs/") {
            &[2, 3]
        } else {
            &[1, 3]
        };
        let layers = has.iter().map(|salt| layer(*salt));
        let named = uri.path().rsplit('/').next().unwrap().to_owned();
        let found = layers
            .into_iter()
            .find(|l| DigestHasher::sha256_of(l).to_string() == named);
        let Some(bytes) = found else {
            return StatusCode::NOT_FOUND.into_response();
        };
        if headers.contains_key(header::RANGE) {
            let range = format!("bytes 0-0/{}", bytes.len());
            let headers = [(header::CONTENT_RANGE, range)];
            return (StatusCode::PARTIAL_CONTENT, headers, vec![bytes[0]]).into_response();
        }
        bytes.into_response()
    };
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

struct Cluster {
    api: SocketAddr,
    peers: SocketAddr,
    udp: SocketAddr,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Cluster {
    async fn start(dir: &Path, open: &[String]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = SupernodeConfig {
            join_token: Some(TOKEN.to_owned()),
            open_repositories: open.iter().map(|listed| listed.parse().unwrap()).collect(),
            ..SupernodeConfig::new(dir, 1 << 30)
        };
        let api = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let peers = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let udp = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        let stop = CancellationToken::new();
        let addresses = (api.local_addr(), peers.local_addr(), udp.local_addr());
        let supernode = Supernode::start(&config, api, peers, stop.clone()).unwrap();
        let supernode = supernode.with_udp_tracker(udp).unwrap();
        Self {
            api: addresses.0.unwrap(),
            peers: addresses.1.unwrap(),
            udp: addresses.2.unwrap(),
            stop,
            running: tokio::spawn(supernode.serve()),
        }
    }

    fn url(&self) -> Url {
        format!("http://{}", self.api).parse().unwrap()
    }

    fn over_http(&self) -> TrackerTiers {
        TrackerTiers::new(&[vec![tracker_url(&self.url()).to_string()]])
    }

    fn over_udp(&self) -> TrackerTiers {
        TrackerTiers::new(&[vec![format!("udp://{}", self.udp)]])
    }

    async fn scrape(&self, swarms: &[InfoHash]) -> ScrapeResponse {
        let query = ScrapeRequest(swarms.to_vec()).to_query();
        let (status, body) = self.get(&format!("/scrape?{query}")).await;
        assert_eq!(status, 200);
        ScrapeResponse::from_bytes(&body).unwrap()
    }

    /// As a stranger.
    async fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.api).await.unwrap();
        let api = self.api;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer));
        read.await.expect("an answer in time").unwrap();
        let end = answer.windows(4).position(|at| at == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        (status, answer[end + 4..].to_vec())
    }

    async fn torrent(&self, digest: &Digest) -> (u16, Vec<u8>) {
        self.get(&format!("/torrents/{digest}.torrent")).await
    }

    /// The torrent of an open layer, as soon as it is whole.
    async fn open_torrent(&self, digest: &Digest) -> Metainfo {
        let found = async {
            loop {
                let (status, body) = self.torrent(digest).await;
                if status == 200 {
                    return Metainfo::from_bytes(&body).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, found);
        found.await.expect("a torrent in time")
    }

    /// What the supernode's peer port answers to a handshake.
    async fn handshake(&self, swarm: InfoHash) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(self.peers).await.unwrap();
        let reserved = [0, 0, 0, 0, 0, 0x10, 0, 4];
        let hello = [
            b"\x13BitTorrent protocol".as_slice(),
            &reserved,
            swarm.as_bytes(),
            b"-XX0001-abcdefghijkl",
        ];
        stream.write_all(&hello.concat()).await.unwrap();
        let mut answer = vec![0; 68];
        let read = tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer));
        let read = read.await.expect("an answer or an end in time");
        read.ok().map(|_| answer)
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// A node that pulls layers of the registry.
struct Puller {
    node: Node,
    registry: SocketAddr,
    _dir: TempDir,
    stop: CancellationToken,
}

impl Puller {
    async fn start(cluster: &Cluster, registry: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = NodeConfig {
            data_dir: dir.path().to_owned(),
            supernodes: vec![cluster.url()],
            origin_of: flotilla_registry::origin_of,
            join_token: Some(TOKEN.to_owned()),
            node_name: "test".to_owned(),
            cache_quota: 1 << 30,
            upload_rate: None,
            download_rate: None,
        };
        let peers = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let stop = cluster.stop.child_token();
        Self {
            node: Node::start(config, peers, stop.clone()).await.unwrap(),
            registry,
            _dir: dir,
            stop,
        }
    }

    async fn pull(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = DigestHasher::sha256_of(bytes);
        let url = format!("http://{}/v2/{repository}/blobs/{digest}", self.registry);
        let request = ContentRequest {
            url: url.parse().unwrap(),
            headers: vec![("Authorization".to_owned(), CREDENTIALS.to_owned())],
            digest: Some(digest.clone()),
            filter_query: Vec::new(),
        };
        let layer = self.node.open(request).await.unwrap();
        let mut reader = layer.read(0..layer.length());
        let whole = async {
            while let Some(part) = reader.next().await {
                part.unwrap();
            }
        };
        tokio::time::timeout(DEADLINE, whole)
            .await
            .expect("the layer in time");
        digest
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn announce(swarm: InfoHash, peer: u8, left: u64) -> AnnounceRequest {
    AnnounceRequest {
        info_hash: swarm,
        peer_id: PeerId::from_bytes([peer; 20]),
        port: 6000 + u16::from(peer),
        ip: Some(IpAddr::from([192, 0, 2, 1])),
        uploaded: 0,
        downloaded: 0,
        left,
        event: Some(AnnounceEvent::Started),
        numwant: Some(50),
        compact: true,
        no_peer_id: true,
        key: None,
        ticket: None,
    }
}

fn assert_refused<T: std::fmt::Debug>(answer: Result<T, TrackerError>) {
    let error = answer.unwrap_err();
    let expected = "refuses: this swarm is not open to strangers";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_meet_in_the_swarms_that_members_register_and_in_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path(), &[]).await;
    let torrent = standard_torrent(b"a file of a member");
    let (swarm, other) = (torrent.info_hash(), InfoHash::from_bytes([9; 20]));
    assert_refused(cluster.over_http().announce(&announce(swarm, 1, 0)).await);
    assert_refused(cluster.over_udp().announce(&announce(swarm, 1, 0)).await);
    assert_eq!(cluster.scrape(&[swarm, other]).await.0, []);

    let stranger = register_torrent(&cluster.url(), Some("a guess"), &torrent).await;
    assert!(stranger.unwrap_err().to_string().contains("join token"));
    for _ in 0..2 {
        let registered = register_torrent(&cluster.url(), Some(TOKEN), &torrent).await;
        assert_eq!(registered.unwrap(), swarm);
    }
    cluster
        .over_http()
        .announce(&announce(swarm, 1, 0))
        .await
        .unwrap();
    let second = cluster
        .over_udp()
        .announce(&announce(swarm, 2, 5))
        .await
        .unwrap();
    // The address that a stranger names does not count.
    assert_eq!(second.peers, [SocketAddr::new(LOOPBACK, 6001)]);
    assert_eq!((second.complete, second.incomplete), (1, 1));
    let third = cluster
        .over_http()
        .announce(&announce(swarm, 3, 5))
        .await
        .unwrap();
    assert_eq!(third.peers.len(), 2);
    let scraped = cluster.scrape(&[swarm, other]).await.0;
    assert_eq!(scraped.len(), 1, "{scraped:?}");
    assert_eq!((scraped[0].complete, scraped[0].incomplete), (1, 2));

    unregister_torrent(&cluster.url(), Some(TOKEN), swarm)
        .await
        .unwrap();
    assert!(
        unregister_torrent(&cluster.url(), Some(TOKEN), swarm)
            .await
            .is_err()
    );
    assert_refused(cluster.over_http().announce(&announce(swarm, 1, 0)).await);
    assert_eq!(cluster.scrape(&[swarm]).await.0, []);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_clients_get_a_list_of_dictionaries_with_or_without_peer_ids() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path(), &[]).await;
    let torrent = standard_torrent(b"a file of a member");
    register_torrent(&cluster.url(), Some(TOKEN), &torrent)
        .await
        .unwrap();
    let swarm = torrent.info_hash();
    cluster
        .over_udp()
        .announce(&announce(swarm, b'a', 0))
        .await
        .unwrap();
    for (compact, no_peer_id, expected) in [
        (true, false, b"5:peers6:\x7f\0\0\x01".as_slice()),
        (false, true, b"5:peersld2:ip9:127.0.0.14:port"),
        (false, false, b"7:peer id20:aaaaaaaaaaaaaaaaaaaa"),
    ] {
        let request = AnnounceRequest {
            compact,
            no_peer_id,
            ..announce(swarm, b'b', 5)
        };
        let (_, body) = cluster
            .get(&format!("/announce?{}", request.to_query()))
            .await;
        let has = |part: &[u8]| body.windows(part.len()).any(|at| at == part);
        assert!(has(expected), "{}", body.escape_ascii());
        assert_eq!(has(b"peer id"), !compact && !no_peer_id);
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_datagrams_are_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path(), &[]).await;
    let swarm = InfoHash::from_bytes([1; 20]);
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let asked = |id, transaction| {
        let request = Box::new(announce(swarm, 1, 0));
        UdpRequest::Announce(id, TransactionId(transaction), request).to_bytes()
    };
    let scrape = UdpRequest::Scrape(ConnectionId(7), TransactionId(1), vec![swarm]);
    let connect = UdpRequest::Connect(TransactionId(99)).to_bytes();
    let mut wrong_protocol = connect.clone();
    wrong_protocol[0] = 1;
    for datagram in [
        Vec::new(),
        vec![0; 15],
        vec![0xff; 16],
        vec![b'd'; 9000],
        wrong_protocol,
        asked(ConnectionId(0), 1),
        asked(ConnectionId(u64::MAX), 1),
        asked(ConnectionId(7), 1)[..97].to_vec(),
        scrape.to_bytes(),
    ] {
        socket.send_to(&datagram, cluster.udp).await.unwrap();
    }
    let answer = async |socket: &UdpSocket| {
        let mut buffer = [0; 2048];
        let received = tokio::time::timeout(DEADLINE, socket.recv_from(&mut buffer));
        let (length, from) = received.await.expect("an answer in time").unwrap();
        assert_eq!(from, cluster.udp);
        UdpReply::from_bytes(&buffer[..length], AddressFamily::V4).unwrap()
    };
    // The tracker answers in order: what comes first is the answer to this.
    socket.send_to(&connect, cluster.udp).await.unwrap();
    let UdpReply::Connect(TransactionId(99), id) = answer(&socket).await else {
        panic!("an answer to a hostile datagram");
    };
    // The id is worth nothing at another address.
    let elsewhere = UdpSocket::bind(("127.0.0.2", 0)).await.unwrap();
    elsewhere.send_to(&asked(id, 2), cluster.udp).await.unwrap();
    elsewhere.send_to(&connect, cluster.udp).await.unwrap();
    assert!(matches!(answer(&elsewhere).await, UdpReply::Connect(..)));
    // At its own it leads to the refusal, and a scrape tells nothing.
    socket.send_to(&asked(id, 3), cluster.udp).await.unwrap();
    let refused = answer(&socket).await;
    assert!(
        matches!(refused, UdpReply::Error(TransactionId(3), _)),
        "{refused:?}"
    );
    let scrape = UdpRequest::Scrape(id, TransactionId(4), vec![swarm]).to_bytes();
    socket.send_to(&scrape, cluster.udp).await.unwrap();
    let UdpReply::Scrape(_, counts) = answer(&socket).await else {
        panic!("no scrape");
    };
    assert_eq!(counts, [Default::default()]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_for_strangers_when_it_came_from_an_open_repository() {
    let registry = registry().await;
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path(), &[format!("{registry}/public/*")]).await;
    let puller = Puller::start(&cluster, registry).await;
    let private = puller.pull("private/app", &layer(1)).await;
    let public = puller.pull("public/app", &layer(2)).await;
    let shared = puller.pull("private/app", &layer(3)).await;

    let torrent = cluster.open_torrent(&public).await;
    assert!(torrent.is_private());
    let swarm = torrent.info_hash();
    assert_eq!(swarm, standard_torrent(&layer(2)).info_hash());
    let expected = [
        vec![format!("http://{}/announce", cluster.api)],
        vec![format!("udp://127.0.0.1:{}/announce", cluster.udp.port())],
    ];
    assert_eq!(torrent.announce(), expected);
    let mut tiers = TrackerTiers::new(torrent.announce());
    let answer = tiers.announce(&announce(swarm, 1, 5)).await.unwrap();
    assert_eq!(answer.peers, [cluster.peers]);
    let answer = cluster
        .over_udp()
        .announce(&announce(swarm, 1, 5))
        .await
        .unwrap();
    assert_eq!((answer.peers, answer.complete), (vec![cluster.peers], 1));
    assert_eq!(cluster.scrape(&[swarm]).await.0[0].complete, 1);
    let answer = cluster.handshake(swarm).await.expect("a handshake");
    assert_eq!(&answer[28..48], swarm.as_bytes());

    // A closed layer and a missing one give the same answer.
    let absent = DigestHasher::sha256_of(b"absent");
    let nothing = cluster.torrent(&absent).await;
    assert_eq!(nothing.0, 404);
    assert_eq!(cluster.torrent(&private).await, nothing);
    assert_eq!(cluster.torrent(&shared).await, nothing);
    for named in ["etc", ".torrent", "sha256:ab.torrent"] {
        assert_eq!(cluster.get(&format!("/torrents/{named}")).await, nothing);
    }
    for bytes in [layer(1), layer(3)] {
        let swarm = standard_torrent(&bytes).info_hash();
        let content = ContentId::blob(&DigestHasher::sha256_of(&bytes));
        let geometry = Geometry::for_length(bytes.len() as u64).unwrap();
        for swarm in [swarm, InfoHash::of_swarm(&content, &geometry)] {
            assert_refused(cluster.over_http().announce(&announce(swarm, 1, 5)).await);
            assert_refused(cluster.over_udp().announce(&announce(swarm, 1, 5)).await);
            assert_eq!(cluster.scrape(&[swarm]).await.0, []);
        }
        assert_eq!(cluster.handshake(swarm).await, None);
    }

    // The same layer, from the open repository as well.
    puller.pull("public/app", &layer(3)).await;
    let opened = cluster.open_torrent(&shared).await;
    assert!(cluster.handshake(opened.info_hash()).await.is_some());
    assert_eq!(cluster.torrent(&private).await, nothing);
    drop(puller);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_layer_is_open_after_a_restart_while_its_repository_is_listed() {
    let registry = registry().await;
    let dir = tempfile::tempdir().unwrap();
    let listed = [format!("{registry}/public/app")];
    let cluster = Cluster::start(dir.path(), &listed).await;
    let puller = Puller::start(&cluster, registry).await;
    let public = puller.pull("public/app", &layer(2)).await;
    let torrent = cluster.open_torrent(&public).await;
    drop(puller);
    cluster.end().await;

    let cluster = Cluster::start(dir.path(), &[]).await;
    assert_eq!(cluster.torrent(&public).await.0, 404);
    let swarm = torrent.info_hash();
    assert_refused(cluster.over_http().announce(&announce(swarm, 1, 5)).await);
    assert_eq!(cluster.handshake(swarm).await, None);
    cluster.end().await;

    let cluster = Cluster::start(dir.path(), &listed).await;
    // Also for those who have the torrent from before, and ask for nothing but peers.
    let open = async {
        while cluster
            .over_http()
            .announce(&announce(swarm, 1, 5))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, open)
        .await
        .expect("open in time");
    assert!(cluster.handshake(swarm).await.is_some());
    cluster.end().await;
}
