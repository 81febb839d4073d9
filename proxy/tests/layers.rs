//! Layers: from the swarm, for authorized callers, unbroken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod fakes;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use bytes::Bytes;
use fakes::origin::{Origin, field};
use fakes::raw_client::{RawResponse, get, get_from_mirror};
use fakes::registry::{self, ALLOWED, CHALLENGE, Faults, REPOSITORY, UNAUTHORIZED};
use fakes::swarm::{FakeLayer, FakeSwarm, Opening, Then};
use fakes::{RunningProxy, mirror_of, patterned, proxy};
use flotilla_client::{Node, NodeConfig};
use flotilla_proxy::{Mark, ProxyConfig};
use flotilla_torrents::DigestHasher;
use futures_util::stream;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const LENGTH: usize = 3_000_017;

/// A blob, the registry that has it, and the swarm in front of it.
struct Scene {
    blob: Arc<Vec<u8>>,
    digest: String,
    url: String,
    registry: Origin,
    proxy: RunningProxy,
    swarm: FakeSwarm,
}

impl Scene {
    async fn new(faults: Faults, swarm: impl FnOnce(&[u8]) -> FakeSwarm) -> Self {
        let blob = Arc::new(patterned(LENGTH));
        let swarm = swarm(&blob);
        let digest = DigestHasher::sha256_of(&blob).to_string();
        let (url, registry) = registry::start(Arc::clone(&blob), &digest, faults).await;
        let proxy = proxy(ProxyConfig::default(), swarm.clone()).await;
        Self {
            blob,
            digest,
            url,
            registry,
            proxy,
            swarm,
        }
    }

    async fn healthy() -> Self {
        Self::new(Faults::default(), |blob| {
            FakeSwarm::opening(Opening::Layer(FakeLayer::whole(blob)))
        })
        .await
    }

    /// The swarm has only the first `has` bytes.
    async fn stalling(has: usize, faults: Faults) -> Self {
        Self::new(faults, |blob| {
            FakeSwarm::opening(Opening::Layer(FakeLayer::until(blob, has)))
        })
        .await
    }

    async fn get(&self, fields: &str) -> RawResponse {
        get(self.proxy.addr, &self.url, &format!("{ALLOWED}{fields}")).await
    }
}

/// Not `assert_eq`: three megabytes of difference are not worth reading.
fn assert_same(found: &[u8], expected: &[u8]) {
    assert_eq!(found.len(), expected.len());
    let difference = found
        .iter()
        .zip(expected)
        .position(|(one, other)| one != other);
    assert_eq!(difference, None, "first different byte");
}

#[tokio::test]
async fn a_layer_comes_from_the_swarm_with_the_registries_headers() {
    let scene = Scene::healthy().await;
    let response = scene.get("").await;
    assert_eq!(response.status(), 200);
    assert_same(&response.body, &scene.blob);
    let etag = format!("\"{}\"", scene.digest);
    for (name, value) in [
        ("content-length", LENGTH.to_string().as_str()),
        ("content-type", "application/octet-stream"),
        ("docker-content-digest", &scene.digest),
        ("etag", &etag),
        ("accept-ranges", "bytes"),
        ("docker-distribution-api-version", "registry/2.0"),
        ("cache-control", "max-age=31536000"),
    ] {
        assert_eq!(response.field(name), Some(value), "{name}");
    }
    assert_eq!(scene.registry.seen().len(), 0);
    let opened = scene.swarm.opened().remove(0);
    assert_eq!(opened.url.as_str(), scene.url);
    assert_eq!(
        opened.headers,
        [("Authorization".to_owned(), "Bearer good".to_owned())]
    );
    assert_eq!(opened.digest.to_string(), scene.digest);
    assert_eq!(scene.proxy.stats.counts().swarm_bytes, LENGTH as u64);
}

#[tokio::test]
async fn a_mirror_serves_layers_and_names_the_registry_to_the_swarm() {
    let scene = Scene::healthy().await;
    let mirror = proxy(mirror_of(scene.registry.addr), scene.swarm.clone()).await;
    let path = format!(
        "/v2/{REPOSITORY}/blobs/{}?ns={}",
        scene.digest, scene.registry.addr
    );
    let response = get_from_mirror(mirror.addr, &path, ALLOWED).await;
    assert_same(&response.body, &scene.blob);
    assert_eq!(scene.swarm.opened()[0].url.as_str(), scene.url);
}

#[tokio::test]
async fn ranges_are_served_from_the_swarm() {
    let scene = Scene::healthy().await;
    for (range, first, end) in [
        ("0-0", 0, 1),
        ("100000-2000000", 100_000, 2_000_001),
        ("2999999-", 2_999_999, LENGTH),
        ("-17", LENGTH - 17, LENGTH),
        ("5-99999999", 5, LENGTH),
    ] {
        let response = scene.get(&format!("Range: bytes={range}\r\n")).await;
        assert_eq!(response.status(), 206, "{range}");
        assert_same(&response.body, &scene.blob[first..end]);
        let content_range = format!("bytes {first}-{}/{LENGTH}", end - 1);
        assert_eq!(
            response.field("content-range"),
            Some(content_range.as_str())
        );
        assert_eq!(
            response.field("content-length"),
            Some((end - first).to_string().as_str())
        );
    }
    assert_eq!(scene.registry.seen().len(), 0);
}

#[tokio::test]
async fn a_range_past_the_end_is_416_with_the_right_length() {
    let scene = Scene::healthy().await;
    let response = scene.get(&format!("Range: bytes={LENGTH}-\r\n")).await;
    assert_eq!(response.status(), 416);
    assert_eq!(
        response.field("content-range"),
        Some(format!("bytes */{LENGTH}").as_str())
    );
    assert_eq!(
        response.field("content-length"),
        Some(response.body.len().to_string().as_str())
    );
}

#[tokio::test]
async fn conditional_requests_are_the_registrys() {
    let scene = Scene::healthy().await;
    let response = scene.get("If-None-Match: \"x\"\r\n").await;
    assert_eq!(response.field("x-from"), Some("registry"));
    assert_eq!(scene.swarm.opened().len(), 0);
}

#[tokio::test]
async fn a_stalled_swarm_is_continued_from_the_registry_in_the_same_response() {
    let scene = Scene::stalling(1_000_001, Faults::default()).await;
    let response = scene.get("").await;
    assert_eq!(response.status(), 200);
    assert_same(&response.body, &scene.blob);
    let asked = scene.registry.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        field(&asked[0], "range"),
        Some(format!("bytes=1000001-{}", LENGTH - 1).as_str())
    );
    assert_eq!(field(&asked[0], "accept-encoding"), Some("identity"));
    let counts = scene.proxy.stats.counts();
    assert_eq!(
        (counts.swarm_bytes, counts.fallback_bytes),
        (1_000_001, LENGTH as u64 - 1_000_001)
    );
    assert_eq!(counts.fallbacks, 1);
}

#[tokio::test]
async fn a_range_is_continued_up_to_its_own_end() {
    let scene = Scene::stalling(1_000_000, Faults::default()).await;
    let response = scene.get("Range: bytes=999990-1000009\r\n").await;
    assert_same(&response.body, &scene.blob[999_990..1_000_010]);
    assert_eq!(
        field(&scene.registry.seen()[0], "range"),
        Some("bytes=1000000-1000009")
    );
}

#[tokio::test]
async fn a_registry_that_ignores_range_can_take_over() {
    let scene = Scene::stalling(
        1_000_001,
        Faults {
            ignores_range: true,
            ..Faults::default()
        },
    )
    .await;
    assert_same(&scene.get("").await.body, &scene.blob);
    let response = scene.get("Range: bytes=999990-1000009\r\n").await;
    assert_same(&response.body, &scene.blob[999_990..1_000_010]);
}

#[tokio::test]
async fn a_registry_that_breaks_off_is_asked_for_the_rest() {
    let scene = Scene::stalling(
        500_000,
        Faults {
            breaks_after: Some(1_000_000),
            ..Faults::default()
        },
    )
    .await;
    assert_same(&scene.get("").await.body, &scene.blob);
    assert_eq!(scene.registry.seen().len(), 3);
}

#[tokio::test]
async fn redirects_of_the_registry_are_followed_without_credentials() {
    let blob = Arc::new(patterned(LENGTH));
    let stored = Arc::clone(&blob);
    let store = Origin::start(move |head, mut stream| {
        let stored = Arc::clone(&stored);
        async move {
            let _ = registry::send(&stored, Faults::default(), &head, &mut stream).await;
        }
    })
    .await;
    let scene = Scene::stalling(
        1_000,
        Faults {
            store: Some(store.addr),
            ..Faults::default()
        },
    )
    .await;
    assert_same(&scene.get("").await.body, &blob);
    let asked = store.seen().remove(0);
    assert!(
        asked.starts_with("GET /signed?sig=a%2Fb HTTP/1.1\r\n"),
        "{asked}"
    );
    assert_eq!(field(&asked, "authorization"), None);
    assert!(field(&asked, "range").unwrap().starts_with("bytes=1000-"));
}

#[tokio::test(start_paused = true)]
async fn a_swarm_that_is_slow_is_left_for_a_registry_that_is_faster() {
    let scene = Scene::new(Faults::default(), |blob| {
        let slow = FakeLayer::until(blob, 500_000).and_then(Then::Trickles);
        FakeSwarm::opening(Opening::Layer(slow))
    })
    .await;
    let began = tokio::time::Instant::now();
    assert_same(&scene.get("").await.body, &scene.blob);
    // At 64 KiB a second it would have been 40 seconds.
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(scene.registry.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_swarm_that_is_slow_is_better_than_a_registry_that_breaks_off() {
    let faults = Faults {
        breaks_after: Some(0),
        ..Faults::default()
    };
    let scene = Scene::new(faults, |blob| {
        let slow = FakeLayer::until(blob, 2_000_000).and_then(Then::Trickles);
        FakeSwarm::opening(Opening::Layer(slow))
    })
    .await;
    assert_same(&scene.get("").await.body, &scene.blob);
}

#[tokio::test]
async fn a_response_whose_bytes_are_wrong_already_ends_at_once() {
    let scene = Scene::new(Faults::default(), |blob| {
        let wrong = FakeLayer::until(blob, 1_000_000).and_then(Then::Fails(Mark::LayerWrong));
        FakeSwarm::opening(Opening::Layer(wrong))
    })
    .await;
    let response = scene.get("").await;
    assert!(response.body.len() <= 1_000_000 && scene.blob.starts_with(&response.body));
    assert!(scene.registry.seen().is_empty(), "nothing more is fetched");
}

#[tokio::test]
async fn when_all_is_lost_the_connection_breaks() {
    let scene = Scene::stalling(
        1_000_000,
        Faults {
            breaks_after: Some(0),
            ..Faults::default()
        },
    )
    .await;
    let response = scene.get("").await;
    assert_eq!(
        response.field("content-length"),
        Some(LENGTH.to_string().as_str())
    );
    assert_same(&response.body, &scene.blob[..1_000_000]);
}

/// A node whose supernode opens nothing. The directory is the node's.
async fn node_of_supernode(opens: fn() -> Body) -> (Node, Arc<AtomicUsize>, TempDir) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let open = post(async move || {
        counter.fetch_add(1, Ordering::SeqCst);
        opens()
    });
    let listener = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (api, peers) = (listener().await, listener().await);
    let supernode = format!("http://{}", api.local_addr().unwrap());
    let routes = Router::new().route("/v1/swarms", open);
    tokio::spawn(async move { axum::serve(api, routes).await });
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        data_dir: dir.path().to_owned(),
        supernodes: vec![supernode.parse().unwrap()],
        origin_of: flotilla_registry::origin_of,
        join_token: None,
        node_name: "test".to_owned(),
        cache_quota: 1 << 30,
        upload_rate: None,
        download_rate: None,
    };
    let node = Node::start(config, peers, CancellationToken::new()).await;
    (node.unwrap(), asked, dir)
}

#[tokio::test]
async fn a_silent_supernode_delays_a_pull_by_two_seconds_at_most() {
    let (node, asked, _dir) =
        node_of_supernode(|| Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()))
            .await;
    let scene = Scene::new(Faults::default(), |_| FakeSwarm::absent()).await;
    let proxy = proxy(ProxyConfig::default(), node).await;
    let began = Instant::now();
    let response = get(proxy.addr, &scene.url, ALLOWED).await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(2500), "{took:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(response.field("x-from"), Some("registry"));
    assert_same(&response.body, &scene.blob);
    assert_eq!(proxy.stats.counts().passes, 1);
}

#[tokio::test]
async fn a_supernode_that_waits_for_the_registry_is_waited_for() {
    let (node, asked, _dir) = node_of_supernode(|| {
        Body::from_stream(stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
        }))
    })
    .await;
    let scene = Scene::new(Faults::default(), |_| FakeSwarm::absent()).await;
    let proxy = proxy(ProxyConfig::default(), node).await;
    let asking = get(proxy.addr, &scene.url, ALLOWED);
    let early = tokio::time::timeout(Duration::from_secs(3), asking).await;
    assert!(early.is_err(), "given up although the supernode answers");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(scene.registry.seen().len(), 0);
}

#[tokio::test]
async fn what_the_swarm_refuses_the_registry_refuses_in_its_own_words() {
    let scene = Scene::new(Faults::default(), |_| FakeSwarm::absent()).await;
    let response = get(
        scene.proxy.addr,
        &scene.url,
        "Authorization: Bearer bad\r\n",
    )
    .await;
    assert_eq!(response.status(), 401);
    assert!(response.head.contains(CHALLENGE), "{}", response.head);
    assert_eq!(response.text(), UNAUTHORIZED);
}

#[tokio::test]
async fn a_layer_on_the_disk_is_served_to_callers_that_the_registry_lets_in() {
    let scene = Scene::new(Faults::default(), |blob| {
        FakeSwarm::with_local(FakeLayer::whole(blob))
    })
    .await;
    for _ in 0..3 {
        let response = scene.get("").await;
        assert_eq!(response.field("x-from"), None);
        assert_same(&response.body, &scene.blob);
    }
    // One question for the three of them.
    let asked = scene.registry.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(field(&asked[0], "range"), Some("bytes=0-0"));
}

#[tokio::test]
async fn a_layer_on_the_disk_is_refused_to_all_other_callers() {
    let scene = Scene::new(Faults::default(), |blob| {
        FakeSwarm::with_local(FakeLayer::whole(blob))
    })
    .await;
    assert_eq!(scene.get("").await.status(), 200);
    for fields in ["", "Authorization: Bearer bad\r\n"] {
        let response = get(scene.proxy.addr, &scene.url, fields).await;
        assert_eq!(response.status(), 401);
        assert!(response.head.contains(CHALLENGE), "{}", response.head);
        assert_eq!(response.text(), UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_client_that_leaves_disturbs_no_other() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let scene = Scene::healthy().await;
    let mut leaver = tokio::net::TcpStream::connect(scene.proxy.addr)
        .await
        .unwrap();
    let host = scene.registry.addr;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\n{ALLOWED}\r\n",
        scene.url
    );
    leaver.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 1000];
    leaver.read_exact(&mut first).await.unwrap();
    drop(leaver);
    assert_same(&scene.get("").await.body, &scene.blob);
}
