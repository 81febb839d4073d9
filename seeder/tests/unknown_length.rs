//! Registries that send blobs in chunks, without a length: the manifest names it.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod loopback;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use flotilla_client::{ContentRequest, LayerFacts, Node, NodeConfig, OpenError};
use flotilla_seeder::SupernodeConfig;
use flotilla_torrents::DigestHasher;
use futures_util::{TryStreamExt as _, stream};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

const DEADLINE: Duration = Duration::from_secs(60);
const LENGTH: usize = 3 << 20;

/// A registry, a supernode and a node; what lives as long as they do.
struct Scene {
    node: Node,
    request: ContentRequest,
    asked: Arc<AtomicUsize>,
    _dirs: [TempDir; 2],
    _stop: tokio_util::sync::DropGuard,
}

async fn scene() -> Scene {
    let blob: Bytes = (0..LENGTH)
        .map(|n| (n / 251 + n) as u8)
        .collect::<Vec<_>>()
        .into();
    let digest = DigestHasher::sha256_of(&blob);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let chunked = async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        let parts: Vec<_> = blob.chunks(50_000).map(Bytes::copy_from_slice).collect();
        let parts = stream::iter(parts.into_iter().map(Ok::<_, std::io::Error>));
        let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
        (StatusCode::OK, kind, Body::from_stream(parts)).into_response()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/v2/a/blobs/{digest}",
        listener.local_addr().unwrap()
    );
    let router = Router::new().fallback(chunked);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let stop = CancellationToken::new();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = SupernodeConfig::new(dirs[0].path(), 1 << 30);
    let (supernode, _) = loopback::serve(&config, stop.clone()).await;
    let config = NodeConfig {
        data_dir: dirs[1].path().to_owned(),
        supernodes: vec![supernode],
        origin_of: flotilla_registry::origin_of,
        join_token: None,
        node_name: "test".to_owned(),
        cache_quota: 1 << 30,
        upload_rate: None,
        download_rate: None,
    };
    let peers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = Node::start(config, peers, stop.clone()).await.unwrap();
    let request = ContentRequest {
        url: url.parse::<Url>().unwrap(),
        headers: Vec::new(),
        digest: Some(digest),
        filter_query: Vec::new(),
    };
    Scene {
        node,
        request,
        asked,
        _dirs: dirs,
        _stop: stop.drop_guard(),
    }
}

fn facts(length: usize) -> LayerFacts {
    LayerFacts {
        length: Some(length as u64),
        ..LayerFacts::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_length_that_a_manifest_names_makes_a_swarm() {
    let scene = scene().await;
    let known = facts(LENGTH);
    let opening = scene.node.open_for(scene.request.clone(), &known);
    let layer = opening.await.unwrap();
    let reading = layer.read(0..layer.length()).try_collect::<Vec<_>>();
    let read = tokio::time::timeout(DEADLINE, reading).await.unwrap();
    let digest = DigestHasher::sha256_of(&read.unwrap().concat());
    assert_eq!(Some(digest), scene.request.digest);
    assert_eq!(scene.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_it_or_with_a_wrong_one_the_registry_delivers() {
    let scene = scene().await;
    let opened = scene.node.open(scene.request.clone()).await;
    assert!(matches!(opened, Err(OpenError::Unswarmable(_))));
    let known = facts(LENGTH - 1);
    let opened = scene.node.open_for(scene.request.clone(), &known);
    let layer = opened.await.unwrap();
    let completed = tokio::time::timeout(DEADLINE, layer.completed()).await;
    assert!(completed.unwrap().is_err());
}
