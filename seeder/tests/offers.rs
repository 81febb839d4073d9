//! A supernode takes from a node what the node has, on no word but the registry's and the
//! digest's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod loopback;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use flotilla_cluster::messages::swarms::{OpenRequest, OpenResponse};
use flotilla_seeder::SupernodeConfig;
use flotilla_torrents::{DigestHasher, PeerId};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

const CREDENTIALS: &str = "Basic bGV0bWU6aW4=";

/// A supernode and a registry with one blob.
struct Cluster {
    api: Url,
    url: String,
    blob: Vec<u8>,
    /// How often the registry gave the whole blob.
    reads: Arc<AtomicUsize>,
    http: reqwest::Client,
    dir: TempDir,
    _stop: DropGuard,
}

impl Cluster {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let blob: Vec<u8> = (0..1_500_000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
            .collect();
        let reads = Arc::new(AtomicUsize::new(0));
        let (given, counter) = (blob.clone(), Arc::clone(&reads));
        let router = Router::new().fallback(move |uri: Uri, headers: HeaderMap| {
            let answer = answer(&given, &counter, &uri, &headers);
            async move { answer }
        });
        let registry = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let digest = DigestHasher::sha256_of(&blob);
        let address = registry.local_addr().unwrap();
        let url = format!("http://{address}/v2/team/app/blobs/{digest}");
        tokio::spawn(async move { axum::serve(registry, router).await });
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let config = SupernodeConfig::new(dir.path(), 1 << 30);
        let (api, _) = loopback::serve(&config, stop.clone()).await;
        Self {
            api,
            url,
            blob,
            reads,
            http: reqwest::Client::new(),
            dir,
            _stop: stop.drop_guard(),
        }
    }

    async fn ask(&self, credentials: &str, offered: Option<u64>) -> OpenResponse {
        let request = OpenRequest {
            length: None,
            url: self.url.clone(),
            headers: vec![("Authorization".to_owned(), credentials.to_owned())],
            digest: Some(DigestHasher::sha256_of(&self.blob)),
            filter_query: Vec::new(),
            peer_id: PeerId::from_bytes([7; 20]),
            node: "test".to_owned(),
            offered,
            images: Vec::new(),
        };
        let post = self.http.post(self.api.join("/v1/swarms").unwrap());
        let reply = post.json(&request).send().await.unwrap();
        reply.json().await.unwrap()
    }

    async fn offer(&self) -> (String, String) {
        match self.ask(CREDENTIALS, Some(self.blob.len() as u64)).await {
            OpenResponse::Wanted { swarm, ticket } => (swarm.to_string(), ticket.to_string()),
            other => panic!("{other:?}"),
        }
    }

    async fn give(&self, swarm: &str, ticket: &str, bytes: Vec<u8>) -> StatusCode {
        let put = self
            .http
            .put(
                self.api
                    .join(&format!("/v1/swarms/{swarm}/content"))
                    .unwrap(),
            )
            .header("x-flotilla-ticket", ticket);
        put.body(bytes).send().await.unwrap().status()
    }

    fn left(&self) -> usize {
        let of = |folder: &str| std::fs::read_dir(self.dir.path().join(folder)).unwrap();
        of("layers").count()
    }
}

fn answer(blob: &[u8], reads: &AtomicUsize, uri: &Uri, headers: &HeaderMap) -> Response {
    let shown = headers.get(header::AUTHORIZATION);
    if shown.is_none_or(|shown| shown != CREDENTIALS) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if !uri.path().starts_with("/v2/team/app/blobs/") {
        return StatusCode::NOT_FOUND.into_response();
    }
    if headers.contains_key(header::RANGE) {
        let range = (header::CONTENT_RANGE, format!("bytes 0-0/{}", blob.len()));
        return (StatusCode::PARTIAL_CONTENT, [range], blob[..1].to_vec()).into_response();
    }
    reads.fetch_add(1, Ordering::SeqCst);
    blob.to_vec().into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_gives_is_not_read_from_the_registry() {
    let cluster = Cluster::start().await;
    let (swarm, ticket) = cluster.offer().await;
    let given = cluster.give(&swarm, &ticket, cluster.blob.clone()).await;
    assert_eq!(given, StatusCode::OK);
    // It is here now: a second offer finds it open, and so does every caller that may have it.
    for offered in [Some(cluster.blob.len() as u64), None] {
        let answer = cluster.ask(CREDENTIALS, offered).await;
        let OpenResponse::Open(descriptor) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(descriptor.swarm.to_string(), swarm);
    }
    let stranger = cluster.ask("Basic b3RoZXI6dXNlcg==", None).await;
    assert!(matches!(
        stranger,
        OpenResponse::Refused { status: 401, .. }
    ));
    assert_eq!(cluster.reads.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_blob_that_the_registry_gives_the_caller_is_wanted() {
    let cluster = Cluster::start().await;
    let length = cluster.blob.len() as u64;
    let stranger = cluster.ask("Basic b3RoZXI6dXNlcg==", Some(length)).await;
    assert!(matches!(
        stranger,
        OpenResponse::Refused { status: 401, .. }
    ));
    for length in [length - 1, 0, u64::MAX] {
        let wrong = cluster.ask(CREDENTIALS, Some(length)).await;
        assert!(
            matches!(wrong, OpenResponse::Unswarmable { .. }),
            "{length}"
        );
    }
    let (swarm, ticket) = cluster.offer().await;
    let other = "ab".repeat(20);
    for (swarm, ticket) in [(&swarm, "nonsense"), (&other, ticket.as_str())] {
        // Short: an answer to what is not read may be lost.
        let given = cluster.give(swarm, ticket, b"x".to_vec()).await;
        assert_eq!(given, StatusCode::FORBIDDEN);
    }
    assert_eq!(cluster.left(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_are_refused_and_the_registry_is_read_instead() {
    let cluster = Cluster::start().await;
    let mut corrupt = cluster.blob.clone();
    corrupt[3_000_000] ^= 1;
    let short = cluster.blob[..3_000_000].to_vec();
    let long = [cluster.blob.as_slice(), b"more"].concat();
    for (bytes, status) in [
        (corrupt, StatusCode::UNPROCESSABLE_ENTITY),
        (short, StatusCode::BAD_REQUEST),
        (long, StatusCode::BAD_REQUEST),
    ] {
        let (swarm, ticket) = cluster.offer().await;
        assert_eq!(cluster.give(&swarm, &ticket, bytes).await, status);
        assert_eq!(cluster.left(), 0);
        let again = cluster.give(&swarm, &ticket, b"x".to_vec()).await;
        assert_eq!(again, StatusCode::NOT_FOUND, "one offer, one blob");
    }
    let answer = cluster.ask(CREDENTIALS, None).await;
    assert!(matches!(answer, OpenResponse::Open(_)), "{answer:?}");
    assert_eq!(cluster.reads.load(Ordering::SeqCst), 1);
}
