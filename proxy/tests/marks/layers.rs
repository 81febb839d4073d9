//! Layers whose requests pass through, and layers that the registry continues.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use flotilla_client::{Node, NodeConfig};
use flotilla_proxy::{Mark, ProxyConfig};
use flotilla_seeder::{Supernode, SupernodeConfig};
use flotilla_torrents::DigestHasher;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::fakes::origin::{Origin, field};
use crate::fakes::registry::{ALLOWED, Faults, blob_url, start};
use crate::fakes::swarm::{FakeLayer, FakeSwarm, Opening, Then};
use crate::fakes::{RunningProxy, patterned, proxy};
use crate::until_marked;

const LENGTH: usize = 200_000;
/// Bytes that a swarm has which does not deliver the rest.
const FRONT: usize = 100_000;
pub(crate) const REDIRECT: &str = "HTTP/1.1 307 Temporary Redirect\r\nLocation: ftp://store.test/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
pub(crate) const OTHER_LENGTH: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

fn blob() -> Vec<u8> {
    patterned(LENGTH)
}

fn digest() -> String {
    DigestHasher::sha256_of(&blob()).to_string()
}

fn swarm(layer: FakeLayer) -> FakeSwarm {
    FakeSwarm::opening(Opening::Layer(layer))
}

fn stalling() -> FakeSwarm {
    swarm(FakeLayer::until(&blob(), FRONT))
}

/// An address at which no server listens.
pub(crate) async fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Sends a request, and reads the answer in the background.
pub(crate) async fn send(proxy: &RunningProxy, request: impl AsRef<[u8]>) {
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    });
}

pub(crate) async fn get(proxy: &RunningProxy, url: &str, fields: &str) {
    let host = url.split('/').nth(2).unwrap();
    let request =
        format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n");
    send(proxy, request).await;
}

async fn layer_marks(mark: Mark, swarm: FakeSwarm, faults: Faults, fields: &str) {
    let (url, _registry) = start(Arc::new(blob()), &digest(), faults).await;
    let proxy = proxy(ProxyConfig::default(), swarm).await;
    get(&proxy, &url, fields).await;
    until_marked(&proxy.stats, mark).await;
}

pub(crate) async fn caller_refused() {
    let swarm = FakeSwarm::with_local(FakeLayer::whole(&blob()));
    layer_marks(Mark::CallerRefused, swarm, Faults::default(), "").await;
}

pub(crate) async fn caller_unchecked() {
    let swarm = FakeSwarm::with_local(FakeLayer::whole(&blob()));
    let proxy = proxy(ProxyConfig::default(), swarm).await;
    get(&proxy, &blob_url(free_addr().await, &digest()), ALLOWED).await;
    until_marked(&proxy.stats, Mark::CallerUnchecked).await;
}

pub(crate) async fn credentials_unclear() {
    let twice = format!("{ALLOWED}{ALLOWED}");
    let swarm = swarm(FakeLayer::whole(&blob()));
    layer_marks(Mark::CredentialsUnclear, swarm, Faults::default(), &twice).await;
}

pub(crate) async fn url_not_understood() {
    let proxy = proxy(ProxyConfig::default(), FakeSwarm::absent()).await;
    // No host of the URL standard: its end is a number, and it is no address.
    let url = format!("http://1.2.3.4.5/v2/team/app/blobs/{}", digest());
    get(&proxy, &url, "").await;
    until_marked(&proxy.stats, Mark::UrlNotUnderstood).await;
}

pub(crate) async fn layer_unswarmable() {
    let swarm = FakeSwarm::absent();
    layer_marks(Mark::LayerUnswarmable, swarm, Faults::default(), ALLOWED).await;
}

/// A node with its directory.
pub(crate) async fn node(supernode: SocketAddr, quota: u64) -> (Node, TempDir) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        origin_of: flotilla_registry::origin_of,
        data_dir: dir.path().to_owned(),
        supernodes: vec![format!("http://{supernode}").parse().unwrap()],
        join_token: None,
        node_name: "test".to_owned(),
        cache_quota: quota,
        upload_rate: None,
        download_rate: None,
    };
    let peers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = Node::start(config, peers, CancellationToken::new()).await;
    (node.unwrap(), dir)
}

async fn node_marks(mark: Mark, supernode: SocketAddr) {
    // A small one would not have to be stored.
    let blob = patterned(3_000_000);
    let digest = DigestHasher::sha256_of(&blob).to_string();
    let (url, _registry) = start(Arc::new(blob), &digest, Faults::default()).await;
    let (node, _dir) = node(supernode, 1000).await;
    let proxy = proxy(ProxyConfig::default(), node).await;
    get(&proxy, &url, ALLOWED).await;
    until_marked(&proxy.stats, mark).await;
}

pub(crate) async fn supernode_unreachable() {
    node_marks(Mark::SupernodeUnreachable, free_addr().await).await;
}

pub(crate) async fn supernode_answers(mark: Mark, status: u16, body: &'static str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let status = StatusCode::from_u16(status).unwrap();
    let routes = Router::new().route("/v1/swarms", post(move || async move { (status, body) }));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    node_marks(mark, addr).await;
}

pub(crate) async fn node_cannot_store() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (api, peers) = (listener().await, listener().await);
    let addr = api.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = SupernodeConfig::new(dir.path(), 1 << 30);
    let stop = CancellationToken::new();
    let supernode = Supernode::start(&config, api, peers, stop).unwrap();
    tokio::spawn(supernode.serve());
    node_marks(Mark::NodeCannotStore, addr).await;
}

pub(crate) async fn open_timed_out() {
    let swarm = FakeSwarm::opening(Opening::Hangs);
    layer_marks(Mark::OpenTimedOut, swarm, Faults::default(), ALLOWED).await;
}

pub(crate) async fn swarm_fails(mark: Mark, then: Then) {
    let swarm = swarm(FakeLayer::until(&blob(), FRONT).and_then(then));
    layer_marks(mark, swarm, Faults::default(), ALLOWED).await;
}

/// The swarm trickles; the registry sends `parts` of 20 KiB a second.
pub(crate) async fn swarm_slow(mark: Mark, parts: u32) {
    let long = patterned(2_000_000);
    let layer = FakeLayer::until(&long, 1000).and_then(Then::Trickles);
    let registry = Origin::start(move |head, mut stream| async move {
        let range = field(&head, "range").unwrap();
        let first = range
            .trim_start_matches("bytes=")
            .split('-')
            .next()
            .unwrap();
        let length = 2_000_000 - first.parse::<usize>().unwrap();
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\nContent-Range: bytes {first}-1999999/2000000\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes()).await;
        for sent in 0..100 {
            if sent % parts == parts - 1 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            if stream.write_all(&[0; 20_000]).await.is_err() {
                return;
            }
        }
    });
    let registry = registry.await;
    let proxy = proxy(ProxyConfig::default(), swarm(layer)).await;
    get(&proxy, &blob_url(registry.addr, &digest()), ALLOWED).await;
    until_marked(&proxy.stats, mark).await;
}

pub(crate) async fn lazy_range(mark: Mark, ignores_range: bool) {
    let faults = Faults {
        ignores_range,
        ..Faults::default()
    };
    let swarm = swarm(FakeLayer::whole(&blob()).unpublished());
    let fields = format!("{ALLOWED}Range: bytes=150000-150099\r\n");
    layer_marks(mark, swarm, faults, &fields).await;
}

pub(crate) async fn registry_unreachable() {
    let proxy = proxy(ProxyConfig::default(), stalling()).await;
    get(&proxy, &blob_url(free_addr().await, &digest()), ALLOWED).await;
    until_marked(&proxy.stats, Mark::RegistryUnreachable).await;
}

pub(crate) async fn registry_refuses() {
    layer_marks(Mark::RegistryRefuses, stalling(), Faults::default(), "").await;
}

pub(crate) async fn registry_answers(mark: Mark, answer: &str) {
    let registry = Origin::saying(answer).await;
    let proxy = proxy(ProxyConfig::default(), stalling()).await;
    get(&proxy, &blob_url(registry.addr, &digest()), ALLOWED).await;
    until_marked(&proxy.stats, mark).await;
}

pub(crate) async fn registry_breaks_off(mark: Mark) {
    let faults = Faults {
        breaks_after: Some(0),
        ..Faults::default()
    };
    layer_marks(mark, stalling(), faults, ALLOWED).await;
}

pub(crate) async fn range_unsatisfiable() {
    let fields = format!("{ALLOWED}Range: bytes={LENGTH}-\r\n");
    let swarm = swarm(FakeLayer::whole(&blob()));
    layer_marks(Mark::RangeUnsatisfiable, swarm, Faults::default(), &fields).await;
}
