//! Pushes through a proxy that keeps them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flotilla_proxy::{LayerSource, Mark, ProxyConfig};
use flotilla_torrents::DigestHasher;
use tokio::io::AsyncWriteExt as _;

use crate::fakes::origin::Origin;
use crate::fakes::raw_client::exchange;
use crate::fakes::swarm::FakeSwarm;
use crate::fakes::{RunningProxy, proxy};
use crate::layers::{free_addr, node};
use crate::until_marked;

/// Uploads that may wait for their next request.
const MAX_UPLOADS: usize = 1024;

/// A registry that takes everything: whole blobs, and uploads each of which continues elsewhere.
async fn registry(range: &'static str) -> Origin {
    let number = Arc::new(AtomicUsize::new(0));
    Origin::start(move |head, mut stream| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        async move {
            let answer = if head.contains("digest=") {
                "HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
            } else {
                format!(
                    "HTTP/1.1 202 Accepted\r\nLocation: /v2/a/blobs/uploads/{number}\r\n{range}Content-Length: 0\r\nConnection: close\r\n\r\n"
                )
            };
            let length = crate::fakes::origin::field(&head, "content-length");
            let length = length.map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

async fn keeping(source: impl LayerSource) -> RunningProxy {
    let config = ProxyConfig {
        seed_pushed: true,
        ..ProxyConfig::default()
    };
    proxy(config, source).await
}

/// The status of the answer, and where the upload continues.
async fn push(
    proxy: &RunningProxy,
    registry: &Origin,
    method: &str,
    path: &str,
    body: &[u8],
) -> String {
    let host = registry.addr;
    let length = body.len();
    let head = format!(
        "{method} http://{host}{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let answer = exchange(proxy.addr, [head.as_bytes(), body].concat()).await;
    assert!(matches!(answer.status(), 201 | 202), "{}", answer.head);
    answer.field("location").unwrap_or_default().to_owned()
}

async fn start(proxy: &RunningProxy, registry: &Origin) -> String {
    push(proxy, registry, "POST", "/v2/a/blobs/uploads/", b"").await
}

pub(crate) async fn upload_not_kept() {
    let registry = registry("").await;
    // There is no room for it.
    let (node, _dir) = node(free_addr().await, 1000).await;
    let proxy = keeping(node).await;
    let at = start(&proxy, &registry).await;
    push(&proxy, &registry, "PATCH", &at, &[7; 50_000]).await;
    until_marked(&proxy.stats, Mark::UploadNotKept).await;
}

pub(crate) async fn uploads_full() {
    let registry = registry("").await;
    let (node, _dir) = node(free_addr().await, 1 << 30).await;
    let proxy = keeping(node).await;
    for _ in 0..MAX_UPLOADS {
        start(&proxy, &registry).await;
    }
    assert_eq!(proxy.stats.marked(Mark::UploadsFull), 0);
    start(&proxy, &registry).await;
    until_marked(&proxy.stats, Mark::UploadsFull).await;
}

pub(crate) async fn upload_out_of_step() {
    let registry = registry("Range: 0-5\r\n").await;
    let (node, _dir) = node(free_addr().await, 1 << 30).await;
    let proxy = keeping(node).await;
    let at = start(&proxy, &registry).await;
    push(&proxy, &registry, "PATCH", &at, &[7; 1000]).await;
    until_marked(&proxy.stats, Mark::UploadOutOfStep).await;
}

pub(crate) async fn upload_abandoned() {
    let registry = registry("").await;
    let (node, _dir) = node(free_addr().await, 1 << 30).await;
    let proxy = keeping(node).await;
    start(&proxy, &registry).await;
    until_marked(&proxy.stats, Mark::UploadAbandoned).await;
}

/// Neither the copy nor the swarm makes a pushed layer seed.
pub(crate) async fn push_not_kept(mark: Mark) {
    let registry = registry("").await;
    let proxy = keeping(FakeSwarm::absent()).await;
    let digest = DigestHasher::sha256_of(b"blob");
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    push(&proxy, &registry, "POST", &path, b"blob").await;
    until_marked(&proxy.stats, mark).await;
}
