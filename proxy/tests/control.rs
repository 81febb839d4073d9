//! A node's control socket, in front of a supernode and a registry that tells callers apart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use flotilla_client::control::client::FetchError;
use flotilla_client::control::{self, SOCKET};
use flotilla_client::store::placement::place;
use flotilla_client::{ContentRequest, DaemonClient, Node, NodeConfig};
use flotilla_proxy::{CheckedContent, Mark, ProxyConfig, ProxyStats};
use flotilla_seeder::{Supernode, SupernodeConfig};
use flotilla_torrents::{Digest, DigestHasher};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

/// Every wait of these tests ends by then.
const DEADLINE: Duration = Duration::from_secs(60);
const MEMBER: &str = "Bearer member";
const GUEST: &str = "Bearer guest";

/// Members may have everything, guests what is at `/public`; both files have the same length.
#[derive(Clone)]
struct Registry {
    addr: SocketAddr,
    bytes: Arc<Vec<u8>>,
    whole_gets: Arc<AtomicUsize>,
}

impl Registry {
    async fn start(length: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Self {
            addr: listener.local_addr().unwrap(),
            bytes: Arc::new((0_u8..251).cycle().take(length).collect()),
            whole_gets: Arc::default(),
        };
        let answering = registry.clone();
        let router = Router::new().fallback(move |request: Request| {
            let registry = answering.clone();
            async move { registry.answer(&request) }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        registry
    }

    fn answer(&self, request: &Request) -> Response<Body> {
        let headers = request.headers();
        let shown = headers.get("authorization").map(|v| v.to_str().unwrap());
        let is_public = request.uri().path().starts_with("/public");
        let answer = Response::builder().header("etag", "\"one\"");
        if !(shown == Some(MEMBER) || shown == Some(GUEST) && is_public) {
            let refused = answer.status(StatusCode::UNAUTHORIZED);
            return refused.body(Body::empty()).unwrap();
        }
        if headers.contains_key("range") {
            let range = format!("bytes 0-0/{}", self.bytes.len());
            let partial = answer.status(206).header("content-range", range);
            return partial.body(Body::from(self.bytes[..1].to_vec())).unwrap();
        }
        self.whole_gets.fetch_add(1, Ordering::SeqCst);
        answer.body(Body::from(self.bytes.to_vec())).unwrap()
    }

    fn digest(&self) -> Digest {
        DigestHasher::sha256_of(&self.bytes)
    }

    fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.addr).parse().unwrap()
    }

    fn blob(&self) -> Url {
        self.url(&format!("/v2/team/app/blobs/{}", self.digest()))
    }
}

/// A supernode and a node.
struct Cluster {
    dirs: [TempDir; 2],
    daemon: DaemonClient,
    stats: Arc<ProxyStats>,
    _stop: DropGuard,
}

impl Cluster {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let stop = CancellationToken::new();
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let listener = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (api, peers) = (listener().await, listener().await);
        let supernode = format!("http://{}", api.local_addr().unwrap());
        let config = SupernodeConfig::new(dirs[0].path(), 1 << 30);
        let running = Supernode::start(&config, api, peers, stop.clone()).unwrap();
        tokio::spawn(running.serve());
        let config = NodeConfig {
            data_dir: dirs[1].path().to_owned(),
            supernodes: vec![supernode.parse().unwrap()],
            origin_of: flotilla_registry::origin_of,
            join_token: None,
            node_name: "test".to_owned(),
            cache_quota: 1 << 30,
            upload_rate: None,
            download_rate: None,
        };
        let node = Node::start(config, listener().await, stop.clone()).await;
        let node = node.unwrap();
        let stats = Arc::new(ProxyStats::default());
        let content =
            CheckedContent::new(&ProxyConfig::default(), node.clone(), Arc::clone(&stats)).unwrap();
        control::offer(node.engine(), Some(Arc::new(content))).unwrap();
        let daemon = DaemonClient::connect(&dirs[1].path().join(SOCKET)).await;
        Self {
            dirs,
            daemon: daemon.unwrap(),
            stats,
            _stop: stop.drop_guard(),
        }
    }

    /// The bytes that a client with `token` makes a file of.
    async fn fetch(
        &self,
        url: Url,
        token: &str,
        digest: Option<Digest>,
    ) -> Result<Vec<u8>, FetchError> {
        let request = ContentRequest {
            url,
            headers: vec![("Authorization".to_owned(), token.to_owned())],
            digest,
            filter_query: Vec::new(),
        };
        let fetching = self.daemon.fetch(&request, |_| {});
        let fetched = tokio::time::timeout(DEADLINE, fetching).await.unwrap()?;
        let output = self.dirs[1].path().join("out");
        place(&fetched.layer().path, &output).unwrap();
        let bytes = std::fs::read(&output).unwrap();
        assert_eq!(fetched.layer().sha256, DigestHasher::sha256_of(&bytes));
        Ok(bytes)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_fetched_once_for_all_clients_and_each_is_authorized() {
    for length in [5 << 20, 300_000, 1000] {
        let (registry, cluster) = (Registry::start(length).await, Cluster::start().await);
        let fetch = |token| cluster.fetch(registry.blob(), token, Some(registry.digest()));
        for _ in 0..2 {
            assert_eq!(fetch(MEMBER).await.unwrap(), *registry.bytes);
            fetch(GUEST).await.expect_err("a guest was let in");
        }
        assert_eq!(cluster.stats.marked(Mark::CallerRefused), 2);
        assert_eq!(registry.whole_gets.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_to_another_url_opens_no_blob_that_is_here() {
    let (registry, cluster) = (Registry::start(3 << 20).await, Cluster::start().await);
    let digest = registry.digest();
    let blob = cluster.fetch(registry.blob(), MEMBER, Some(digest.clone()));
    blob.await.unwrap();
    // Public, of the blob's length, and not the blob: the registry is asked what it is.
    let gets = registry.whole_gets.load(Ordering::SeqCst);
    let public = registry.url("/public/file");
    let fetched = cluster.fetch(public, GUEST, Some(digest)).await;
    fetched.unwrap();
    assert_eq!(registry.whole_gets.load(Ordering::SeqCst), gets + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_fetched_once_for_all_clients_and_each_is_authorized() {
    let (registry, cluster) = (Registry::start(3 << 20).await, Cluster::start().await);
    let url = registry.url("/files/model.bin?signature=secret");
    for _ in 0..2 {
        let fetched = cluster.fetch(url.clone(), MEMBER, Some(registry.digest()));
        assert_eq!(fetched.await.unwrap(), *registry.bytes);
        let refused = cluster.fetch(url.clone(), GUEST, None).await.unwrap_err();
        assert!(matches!(refused, FetchError::Refused { status: 401, .. }));
    }
    assert_eq!(registry.whole_gets.load(Ordering::SeqCst), 1);
    let shown = registry.url("/files/model.bin").to_string();
    for dir in &cluster.dirs {
        let daemon = DaemonClient::connect(&dir.path().join(SOCKET))
            .await
            .unwrap();
        let layers = daemon.layers().await.unwrap().layers;
        assert_eq!(layers.len(), 1);
        assert_eq!(layers[0].url.as_deref(), Some(shown.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supernode_lists_and_does_not_fetch() {
    let (registry, cluster) = (Registry::start(1000).await, Cluster::start().await);
    let socket = cluster.dirs[0].path().join(SOCKET);
    let supernode = DaemonClient::connect(&socket).await.unwrap();
    assert!(supernode.layers().await.unwrap().layers.is_empty());
    let request = ContentRequest {
        url: registry.blob(),
        headers: Vec::new(),
        digest: None,
        filter_query: Vec::new(),
    };
    let refused = supernode.fetch(&request, |_| {}).await.unwrap_err();
    assert!(matches!(refused, FetchError::Control(_)), "{refused}");
}
