//! A real supernode and real nodes on loopback, in front of a source that misbehaves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod loopback;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use flotilla_client::{ContentRequest, Layer, Node, NodeConfig, OpenError};
use flotilla_seeder::SupernodeConfig;
use flotilla_torrents::{Digest, DigestHasher};
use futures_util::{StreamExt as _, stream};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Every wait of these tests ends by then.
const DEADLINE: Duration = Duration::from_secs(60);
const CREDENTIALS: &str = "Basic bGV0bWU6aW4=";
const OTHERS_CREDENTIALS: &str = "Basic b3RoZXI6dXNlcg==";

/// A registry that counts and misbehaves.
struct Registry {
    body: Bytes,
    /// What it sends instead, from the middle on.
    corrupt: bool,
    /// The first answer breaks off in the middle.
    breaks: AtomicBool,
    pause_before_break: Duration,
    /// What it answers the next time it is asked for the rest.
    refuses_rest: Mutex<Option<StatusCode>>,
    /// Credentials that are good for the beginning only, as a token that expires.
    expired_at_rest: Option<&'static str>,
    /// Strangers are sent to a login page.
    has_login_page: bool,
    /// `ETag` of the first answer, and of all others.
    etags: [&'static str; 2],
    whole_requests: AtomicUsize,
    resumed_at: AtomicUsize,
    probes: AtomicUsize,
}

/// Where anyone may put files on the registry's host, also one whose path ends as a blob's.
const PUBLIC_FILES: &str = "/repository/files";

impl Registry {
    fn new(length: usize) -> Self {
        let body = (0..length as u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes());
        Self {
            body: body.take(length).collect(),
            corrupt: false,
            breaks: AtomicBool::new(false),
            pause_before_break: Duration::ZERO,
            refuses_rest: Mutex::new(None),
            expired_at_rest: None,
            has_login_page: false,
            etags: ["\"one\""; 2],
            whole_requests: AtomicUsize::new(0),
            resumed_at: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
        }
    }

    fn digest(&self) -> Digest {
        DigestHasher::sha256_of(&self.body)
    }

    fn answer(&self, path: &str, headers: &HeaderMap) -> Response {
        if path.starts_with(PUBLIC_FILES) {
            let content_range = (
                header::CONTENT_RANGE,
                format!("bytes 0-0/{}", self.body.len()),
            );
            return (StatusCode::PARTIAL_CONTENT, [content_range], "x").into_response();
        }
        let shown = headers.get(header::AUTHORIZATION);
        if shown.is_none_or(|shown| shown != CREDENTIALS && shown != OTHERS_CREDENTIALS) {
            if !self.has_login_page {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            if path == "/login" {
                return "Who are you?".into_response();
            }
            return (StatusCode::FOUND, [(header::LOCATION, "/login")]).into_response();
        }
        let total = self.body.len();
        let range = headers
            .get(header::RANGE)
            .map(|range| range.to_str().unwrap().to_owned());
        let from = match range.as_deref() {
            Some("bytes=0-0") => {
                self.probes.fetch_add(1, Ordering::SeqCst);
                let range = (header::CONTENT_RANGE, format!("bytes 0-0/{total}"));
                return (StatusCode::PARTIAL_CONTENT, [range], self.body.slice(..1))
                    .into_response();
            }
            Some(range) => range["bytes=".len()..range.len() - 1].parse().unwrap(),
            None => 0,
        };
        let counter = if from == 0 {
            &self.whole_requests
        } else {
            &self.resumed_at
        };
        if from > 0
            && self
                .expired_at_rest
                .is_some_and(|expired| shown.unwrap() == expired)
        {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        if from > 0
            && let Some(status) = self.refuses_rest.lock().unwrap().take()
        {
            return status.into_response();
        }
        counter.fetch_add(if from == 0 { 1 } else { from }, Ordering::SeqCst);
        let mut rest = self.body.slice(from..).to_vec();
        if self.corrupt {
            let middle = rest.len() / 2;
            rest[middle] ^= 1;
        }
        let body = if self.breaks.swap(false, Ordering::SeqCst) {
            rest.truncate(rest.len() / 2);
            let broken: Result<Bytes, _> = Err(std::io::Error::other("broken on purpose"));
            let pause = self.pause_before_break;
            let parts = stream::iter([Ok(rest.into()), broken]).then(move |part| async move {
                if part.is_err() {
                    tokio::time::sleep(pause).await;
                }
                part
            });
            Body::from_stream(parts)
        } else {
            Body::from(rest)
        };
        let headers = [
            (header::CONTENT_LENGTH, (total - from).to_string()),
            (
                header::CONTENT_RANGE,
                format!("bytes {from}-{}/{total}", total - 1),
            ),
            (header::ETAG, self.etags[usize::from(from > 0)].to_owned()),
        ];
        let status = if from == 0 {
            StatusCode::OK
        } else {
            StatusCode::PARTIAL_CONTENT
        };
        (status, headers, body).into_response()
    }
}

struct Cluster {
    registry: Arc<Registry>,
    blob: Url,
    supernode: Url,
    stop: CancellationToken,
    dirs: Vec<TempDir>,
}

impl Cluster {
    async fn start(registry: Registry) -> Self {
        Self::start_sharing(registry, &[]).await
    }

    /// The registry is known by all of `names`, which share their layers.
    async fn start_sharing(registry: Registry, names: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let registry = Arc::new(registry);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let blob = format!(
            "http://{}/v2/a/blobs/{}",
            listener.local_addr().unwrap(),
            registry.digest()
        );
        let served = async |State(registry): State<Arc<Registry>>, uri: Uri, headers: HeaderMap| {
            registry.answer(uri.path(), &headers)
        };
        let router = Router::new()
            .fallback(served)
            .with_state(Arc::clone(&registry));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let port = blob.parse::<Url>().unwrap().port().unwrap();
        let shared = names.iter().map(|name| format!("http://{name}:{port}"));
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let config = SupernodeConfig {
            join_token: Some("a secret of this cluster".to_owned()),
            shared_registries: shared.map(|url| url.parse().unwrap()).collect(),
            ..SupernodeConfig::new(dir.path(), 1 << 30)
        };
        let (supernode, _) = loopback::serve(&config, stop.clone()).await;
        Self {
            registry,
            blob: blob.parse().unwrap(),
            supernode,
            stop,
            dirs: vec![dir],
        }
    }

    async fn node(&mut self) -> Node {
        self.node_with("a secret of this cluster").await.unwrap()
    }

    async fn node_with(&mut self, token: &str) -> Result<Node, flotilla_client::StartError> {
        let dir = tempfile::tempdir().unwrap();
        let config = NodeConfig {
            data_dir: dir.path().to_owned(),
            supernodes: vec![self.supernode.clone()],
            origin_of: flotilla_registry::origin_of,
            join_token: Some(token.to_owned()),
            node_name: "test".to_owned(),
            cache_quota: 1 << 30,
            upload_rate: None,
            download_rate: None,
        };
        self.dirs.push(dir);
        let peers = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Node::start(config, peers, self.stop.clone()).await
    }

    fn request(&self, credentials: Option<&str>) -> ContentRequest {
        let headers = credentials.map(|value| ("Authorization".to_owned(), value.to_owned()));
        ContentRequest {
            url: self.blob.clone(),
            headers: headers.into_iter().collect(),
            digest: Some(self.registry.digest()),
            filter_query: Vec::new(),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn whole(layer: &Layer) -> Vec<u8> {
    let mut reader = layer.read(0..layer.length());
    let mut bytes = Vec::new();
    let all = async {
        while let Some(part) = reader.next().await {
            bytes.extend_from_slice(&part.unwrap());
        }
    };
    tokio::time::timeout(DEADLINE, all)
        .await
        .expect("the layer in time");
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_lead_to_one_request_for_the_layer() {
    let mut cluster = Cluster::start(Registry::new(5 << 20)).await;
    let mut nodes = Vec::new();
    for _ in 0..6 {
        nodes.push(cluster.node().await);
    }
    let gets = nodes.iter().map(|node| async {
        let layer = node.open(cluster.request(Some(CREDENTIALS))).await.unwrap();
        whole(&layer).await
    });
    for bytes in futures_util::future::join_all(gets).await {
        assert!(bytes == cluster.registry.body, "a node has other bytes");
    }
    assert_eq!(cluster.registry.whole_requests.load(Ordering::SeqCst), 1);
    assert_eq!(
        cluster.registry.probes.load(Ordering::SeqCst),
        0,
        "equal credentials share one yes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn small_content_comes_whole() {
    let mut cluster = Cluster::start(Registry::new(1000)).await;
    let node = cluster.node().await;
    let layer = node.open(cluster.request(Some(CREDENTIALS))).await.unwrap();
    assert!(layer.is_complete());
    assert_eq!(whole(&layer).await, cluster.registry.body);
    let kept = async {
        let digest = cluster.registry.digest();
        loop {
            if let Some(kept) = node.local(&digest, &cluster.blob).await {
                return kept;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let kept = tokio::time::timeout(DEADLINE, kept)
        .await
        .expect("kept in time");
    assert_eq!(whole(&kept).await, cluster.registry.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_credentials_is_refused_although_the_layer_is_cached() {
    let mut cluster = Cluster::start(Registry::new(3 << 20)).await;
    let (first, second) = (cluster.node().await, cluster.node().await);
    let layer = first
        .open(cluster.request(Some(CREDENTIALS)))
        .await
        .unwrap();
    whole(&layer).await;
    for credentials in [None, Some("Basic d3Jvbmc6d3Jvbmc=")] {
        for node in [&first, &second] {
            let refused = node.open(cluster.request(credentials)).await;
            assert!(
                matches!(refused, Err(OpenError::Refused { status: 401, .. })),
                "{refused:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_of_the_callers_choice_does_not_open_another_registrys_layer() {
    let mut cluster = Cluster::start(Registry::new(3 << 20)).await;
    let node = cluster.node().await;
    let layer = node.open(cluster.request(Some(CREDENTIALS))).await.unwrap();
    whole(&layer).await;
    layer.completed().await.unwrap();
    // It claims to have every blob, and lets every caller in.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut elsewhere = cluster.request(None);
    elsewhere
        .url
        .set_port(Some(listener.local_addr().unwrap().port()))
        .unwrap();
    let yes = (header::CONTENT_RANGE, format!("bytes 0-0/{}", 3 << 20));
    let router = Router::new().fallback(async move || (StatusCode::PARTIAL_CONTENT, [yes], "x"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let digest = cluster.registry.digest();
    assert!(node.local(&digest, &elsewhere.url).await.is_none());
    for node in [node, cluster.node().await] {
        let opened = node.open(elsewhere.clone()).await;
        assert!(opened.is_err(), "a stranger was let in: {opened:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_on_the_registrys_host_does_not_open_its_layer() {
    let mut cluster = Cluster::start(Registry::new(3 << 20)).await;
    let node = cluster.node().await;
    let root = cluster.blob.path().to_owned();
    let below = |prefix: &str, credentials| {
        let mut request = cluster.request(credentials);
        request.url.set_path(&format!("{prefix}{root}"));
        request
    };
    let own = below("/repository/docker", Some(CREDENTIALS));
    let file = below(PUBLIC_FILES, None);
    let digest = cluster.registry.digest();
    let layer = node.open(own.clone()).await.unwrap();
    assert!(whole(&layer).await == cluster.registry.body);
    layer.completed().await.unwrap();
    assert!(node.local(&digest, &own.url).await.is_some());
    assert!(node.local(&digest, &file.url).await.is_none());
    for node in [node, cluster.node().await] {
        let opened = node.open(file.clone()).await;
        assert!(opened.is_err(), "a stranger was let in: {opened:?}");
        assert!(node.open(own.clone()).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_blobs_own_url_opens_it() {
    let mut cluster = Cluster::start(Registry::new(3 << 20)).await;
    let node = cluster.node().await;
    let digest = cluster.registry.digest();
    let other = DigestHasher::sha256_of(b"another blob");
    let layer = node.open(cluster.request(Some(CREDENTIALS))).await.unwrap();
    whole(&layer).await;
    for path in [
        "/".to_owned(),
        "/v2/a/manifests/latest".to_owned(),
        format!("/v2/a/blobs/{other}"),
        format!("/v2/blobs/{digest}"),
        format!("/v2/a/blobs/{digest}/"),
        format!("/v2/a/blobs/{digest}?x"),
    ] {
        let request = ContentRequest {
            url: cluster.blob.join(&path).unwrap(),
            ..cluster.request(Some(CREDENTIALS))
        };
        let opened = node.open(request).await;
        assert!(
            matches!(opened, Err(OpenError::Unswarmable(_))),
            "{path}: {opened:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_page_is_no_permission() {
    let mut cluster = Cluster::start(Registry {
        has_login_page: true,
        ..Registry::new(3 << 20)
    })
    .await;
    let node = cluster.node().await;
    let layer = node.open(cluster.request(Some(CREDENTIALS))).await.unwrap();
    whole(&layer).await;
    let opened = node.open(cluster.request(None)).await;
    assert!(opened.is_err(), "a stranger was let in: {opened:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_in_two_registries_of_one_operator_is_one_swarm() {
    let registry = Registry::new(3 << 20);
    let mut cluster = Cluster::start_sharing(registry, &["127.0.0.1", "localhost"]).await;
    let node = cluster.node().await;
    let layer = node.open(cluster.request(Some(CREDENTIALS))).await.unwrap();
    whole(&layer).await;
    layer.completed().await.unwrap();
    let mut elsewhere = cluster.request(Some(CREDENTIALS));
    elsewhere.url.set_host(Some("localhost")).unwrap();
    let digest = cluster.registry.digest();
    assert!(node.local(&digest, &elsewhere.url).await.is_some());
    let probes = cluster.registry.probes.load(Ordering::SeqCst);
    for node in [node, cluster.node().await] {
        let layer = node.open(elsewhere.clone()).await.unwrap();
        assert!(whole(&layer).await == cluster.registry.body);
        let stranger = ContentRequest {
            headers: Vec::new(),
            ..elsewhere.clone()
        };
        assert!(node.open(stranger).await.is_err());
    }
    assert_eq!(cluster.registry.whole_requests.load(Ordering::SeqCst), 1);
    let asked = cluster.registry.probes.load(Ordering::SeqCst);
    assert_eq!(
        asked,
        probes + 1,
        "each registry says for itself who may have it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_breaks_off_is_asked_for_the_rest_only() {
    let registry = Registry::new(4 << 20);
    registry.breaks.store(true, Ordering::SeqCst);
    let mut cluster = Cluster::start(registry).await;
    let node = cluster.node().await;
    let layer = node.open(cluster.request(Some(CREDENTIALS))).await.unwrap();
    assert!(whole(&layer).await == cluster.registry.body);
    assert_eq!(cluster.registry.whole_requests.load(Ordering::SeqCst), 1);
    let resumed = cluster.registry.resumed_at.load(Ordering::SeqCst);
    assert!(
        (1 << 20..=2 << 20).contains(&resumed),
        "resumed at {resumed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_busy_when_asked_for_the_rest_is_asked_again() {
    let registry = Registry::new(4 << 20);
    registry.breaks.store(true, Ordering::SeqCst);
    *registry.refuses_rest.lock().unwrap() = Some(StatusCode::BAD_GATEWAY);
    let mut cluster = Cluster::start(registry).await;
    let node = cluster.node().await;
    let layer = node.open(cluster.request(Some(CREDENTIALS))).await.unwrap();
    assert!(whole(&layer).await == cluster.registry.body);
    assert_eq!(cluster.registry.whole_requests.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_midway_leaves_the_layer_to_another_caller_s() {
    for expired in [CREDENTIALS, OTHERS_CREDENTIALS] {
        let registry = Registry {
            expired_at_rest: Some(expired),
            pause_before_break: Duration::from_millis(500),
            ..Registry::new(4 << 20)
        };
        registry.breaks.store(true, Ordering::SeqCst);
        let mut cluster = Cluster::start(registry).await;
        let node = cluster.node().await;
        let layer = node.open(cluster.request(Some(CREDENTIALS))).await.unwrap();
        let other = cluster.request(Some(OTHERS_CREDENTIALS));
        node.open(other).await.unwrap();
        assert!(whole(&layer).await == cluster.registry.body);
        assert_eq!(cluster.registry.whole_requests.load(Ordering::SeqCst), 1);
    }
}

/// What came of a plain URL whose first answer breaks off.
async fn broken_off(etags: [&'static str; 2]) -> Result<Result<(), String>, OpenError> {
    let registry = Registry {
        etags,
        ..Registry::new(4 << 20)
    };
    registry.breaks.store(true, Ordering::SeqCst);
    let mut cluster = Cluster::start(registry).await;
    let node = cluster.node().await;
    let request = ContentRequest {
        digest: None,
        ..cluster.request(Some(CREDENTIALS))
    };
    let layer = node.open(request).await?;
    let completed = tokio::time::timeout(DEADLINE, layer.completed());
    Ok(completed.await.expect("an outcome in time"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_midway_is_not_put_together_from_two() {
    let same = broken_off(["\"one\"", "\"one\""]).await.unwrap();
    same.expect("the same file continues");
    let changed = broken_off(["\"one\"", "\"two\""]).await.unwrap();
    let reason = changed.expect_err("a mixture was called complete");
    assert!(reason.contains("changed"), "{reason}");
    let nameless = broken_off(["", ""]).await;
    assert!(
        matches!(nameless, Err(OpenError::Unswarmable(_))),
        "{nameless:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_do_not_match_the_digest_void_the_swarm() {
    let mut cluster = Cluster::start(Registry {
        corrupt: true,
        ..Registry::new(3 << 20)
    })
    .await;
    let node = cluster.node().await;
    let layer = node.open(cluster.request(Some(CREDENTIALS))).await.unwrap();
    let outcome = tokio::time::timeout(DEADLINE, layer.completed())
        .await
        .unwrap();
    assert!(outcome.is_err(), "a corrupt layer was called complete");
    assert!(
        node.local(&cluster.registry.digest(), &cluster.blob)
            .await
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_join_token_is_no_member() {
    let mut cluster = Cluster::start(Registry::new(1000)).await;
    let refused = cluster.node_with("another secret entirely").await;
    let error = refused.expect_err("refused").to_string();
    assert!(error.contains("join token"), "{error}");
}
