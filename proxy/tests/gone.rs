//! Blobs that their registry has deleted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod fakes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fakes::origin::{Origin, field};
use fakes::raw_client::{exchange, get};
use fakes::registry::{self, Faults};
use fakes::swarm::{FakeLayer, FakeSwarm};
use fakes::{patterned, proxy};
use flotilla_proxy::ProxyConfig;
use flotilla_torrents::DigestHasher;
use tokio::io::AsyncWriteExt as _;

/// A registry with one blob, until it is told to delete it or does so itself.
async fn deleting(blob: Vec<u8>, is_gone: &Arc<AtomicBool>) -> Origin {
    let (blob, is_gone) = (Arc::new(blob), Arc::clone(is_gone));
    Origin::start(move |head, mut stream| {
        let (blob, is_gone) = (Arc::clone(&blob), Arc::clone(&is_gone));
        async move {
            if is_gone.load(Ordering::SeqCst) {
                let answer =
                    b"HTTP/1.1 404 X\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngone";
                let length = if head.starts_with("HEAD") {
                    answer.len() - 4
                } else {
                    answer.len()
                };
                stream.write_all(&answer[..length]).await.unwrap();
            } else if head.starts_with("DELETE") {
                is_gone.store(true, Ordering::SeqCst);
                let answer = b"HTTP/1.1 202 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            } else {
                let _ = registry::send(&blob, Faults::default(), &head, &mut stream).await;
            }
        }
    })
    .await
}

async fn is_refused_after(method: &str, is_deleted_elsewhere: bool) {
    let blob = patterned(1000);
    let digest = DigestHasher::sha256_of(&blob).to_string();
    let is_gone = Arc::default();
    let registry = deleting(blob.clone(), &is_gone).await;
    let swarm = FakeSwarm::with_local(FakeLayer::whole(&blob));
    let proxy = proxy(ProxyConfig::default(), swarm).await;
    let url = registry::blob_url(registry.addr, &digest);
    for _ in 0..2 {
        assert!(get(proxy.addr, &url, "").await.body == blob);
    }
    assert_eq!(registry.seen().len(), 1, "one question for both");
    assert_eq!(field(&registry.seen()[0], "range"), Some("bytes=0-0"));
    is_gone.store(is_deleted_elsewhere, Ordering::SeqCst);
    let request = format!("{method} {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    exchange(proxy.addr, request).await;
    let response = get(proxy.addr, &url, "").await;
    assert_eq!((response.status(), response.text()), (404, "gone"));
}

#[tokio::test]
async fn a_blob_that_is_deleted_through_the_proxy_is_given_no_longer() {
    is_refused_after("DELETE", false).await;
}

#[tokio::test]
async fn a_blob_that_the_registry_does_not_have_any_longer_is_given_no_longer() {
    is_refused_after("HEAD", true).await;
}
