//! Registries and connections that are silent: how long, and what delivers meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod fakes;

use std::sync::Arc;

use fakes::origin::{Origin, field, read_head};
use fakes::raw_client::get;
use fakes::registry::{self, ALLOWED, Faults};
use fakes::swarm::{FakeLayer, FakeSwarm, Opening, Recovery};
use fakes::{DEADLINE, patterned, plain_proxy, proxy};
use flotilla_proxy::ProxyConfig;
use flotilla_torrents::DigestHasher;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;

const LENGTH: usize = 1_000_000;
const HAS: usize = 300_000;

/// A registry that says what its first answer is and then nothing, with a note of each request.
async fn holding(begins: Vec<u8>) -> (Origin, Arc<Notify>) {
    let asked = Arc::new(Notify::new());
    let noted = Arc::clone(&asked);
    let origin = Origin::start(move |_, mut stream| {
        let (begins, noted) = (begins.clone(), Arc::clone(&noted));
        async move {
            stream.write_all(&begins).await.unwrap();
            noted.notify_one();
            std::future::pending::<()>().await;
        }
    })
    .await;
    (origin, asked)
}

/// A swarm that stalls after the first bytes, continues once the registry was asked for the rest, and so
/// has to be what delivers it.
async fn recovers_while_the_registry_holds(begins: &[u8]) {
    let blob = patterned(LENGTH);
    let digest = DigestHasher::sha256_of(&blob).to_string();
    let (registry, asked) = holding(begins.to_vec()).await;
    let recovery = Recovery::default();
    let layer = FakeLayer::until(&blob, HAS).recovering(&recovery);
    let proxy = proxy(
        ProxyConfig::default(),
        FakeSwarm::opening(Opening::Layer(layer)),
    )
    .await;
    let url = registry::blob_url(registry.addr, &digest);
    let (response, ()) = tokio::join!(get(proxy.addr, &url, ALLOWED), async {
        asked.notified().await;
        recovery.recover();
    });
    assert!(response.body == blob, "{} bytes", response.body.len());
    assert_eq!(registry.seen().len(), 1);
    assert_eq!(proxy.stats.counts().swarm_bytes, LENGTH as u64);
}

#[tokio::test]
async fn a_swarm_that_recovers_delivers_while_the_registry_holds_its_answer() {
    recovers_while_the_registry_holds(b"").await;
}

#[tokio::test]
async fn a_swarm_that_recovers_delivers_while_the_registry_holds_its_body() {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
    recovers_while_the_registry_holds(head.as_bytes()).await;
}

#[tokio::test]
async fn a_swarm_that_opens_late_answers_before_a_registry_that_is_asked_later() {
    let blob = patterned(LENGTH);
    let digest = DigestHasher::sha256_of(&blob).to_string();
    let (registry, asked) = holding(Vec::new()).await;
    let opening = Opening::Later(Arc::clone(&asked), FakeLayer::whole(&blob));
    let proxy = proxy(ProxyConfig::default(), FakeSwarm::opening(opening)).await;
    let url = registry::blob_url(registry.addr, &digest);
    let response = get(proxy.addr, &url, ALLOWED).await;
    assert!(response.body == blob);
    assert_eq!(proxy.stats.counts().swarm_bytes, LENGTH as u64);
}

#[tokio::test]
async fn a_registry_that_refuses_the_caller_is_not_asked_again() {
    let blob = Arc::new(patterned(LENGTH));
    let digest = DigestHasher::sha256_of(&blob).to_string();
    let (url, registry) = registry::start(Arc::clone(&blob), &digest, Faults::default()).await;
    let layer = FakeLayer::until(&blob, HAS);
    let proxy = proxy(
        ProxyConfig::default(),
        FakeSwarm::opening(Opening::Layer(layer)),
    )
    .await;
    let response = get(proxy.addr, &url, "Authorization: Bearer expired\r\n").await;
    assert_eq!(response.body.len(), HAS);
    assert_eq!(registry.seen().len(), 1);
}

#[tokio::test]
async fn the_engine_is_named_to_the_registry_and_to_the_swarm() {
    let blob = Arc::new(patterned(LENGTH));
    let digest = DigestHasher::sha256_of(&blob).to_string();
    let (url, registry) = registry::start(Arc::clone(&blob), &digest, Faults::default()).await;
    let layer = FakeLayer::until(&blob, HAS);
    let swarm = FakeSwarm::opening(Opening::Layer(layer));
    let proxy = proxy(ProxyConfig::default(), swarm.clone()).await;
    let fields = format!("{ALLOWED}User-Agent: containerd/2.4\r\n");
    assert!(get(proxy.addr, &url, &fields).await.body == *blob);
    assert_eq!(
        field(&registry.seen()[0], "user-agent"),
        Some("containerd/2.4")
    );
    let agent = ("User-Agent".to_owned(), "containerd/2.4".to_owned());
    assert!(swarm.opened()[0].headers.contains(&agent));
}

/// What comes on a connection after its first request is not answered, as behind a load balancer that
/// has forgotten it.
async fn forgetting() -> Origin {
    Origin::start(|_, mut stream| async move {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
        let _ = read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await
}

#[tokio::test]
async fn a_kept_connection_that_was_forgotten_is_replaced() {
    let origin = forgetting().await;
    let proxy = plain_proxy().await;
    let url = format!("http://{}/v2/a/manifests/1", origin.addr);
    for _ in 0..3 {
        let response = tokio::time::timeout(DEADLINE, get(proxy.addr, &url, "")).await;
        assert_eq!(response.unwrap().text(), "ok");
    }
}
