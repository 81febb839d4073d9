//! A registry of one layer, a supernode, and nodes.

use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use flotilla_client::{ContentRequest, LayerFacts, Node, NodeConfig};
use flotilla_seeder::SupernodeConfig;
use flotilla_torrents::{Digest, DigestHasher};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::loopback;

/// Every wait of these tests ends by then.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const JOIN_TOKEN: &str = "a secret of this cluster";
pub(crate) const STATS_TOKEN: &str = "a secret of those who look";

pub(crate) struct Cluster {
    pub(crate) supernode: Url,
    pub(crate) http: reqwest::Client,
    pub(crate) stop: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
    pub(crate) length: u64,
    digest: Digest,
    blob: Url,
    supernode_dir: TempDir,
    node_dirs: Vec<TempDir>,
}

impl Cluster {
    pub(crate) async fn start(length: usize) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let numbers = (0..length as u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes());
        let body: Bytes = numbers.take(length).collect();
        let digest = DigestHasher::sha256_of(&body);
        let registry = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let blob = format!(
            "http://{}/v2/team/app/blobs/{digest}",
            registry.local_addr().unwrap()
        );
        let router = Router::new().fallback(async move |headers: HeaderMap| {
            if headers.get(header::RANGE).is_some() {
                let headers = [(header::CONTENT_RANGE, format!("bytes 0-0/{length}"))];
                return (StatusCode::PARTIAL_CONTENT, headers, body.slice(..1)).into_response();
            }
            body.clone().into_response()
        });
        tokio::spawn(async move { axum::serve(registry, router).await });
        let supernode_dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (supernode, serving) = serve(supernode_dir.path(), stop.clone()).await;
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Self {
            supernode,
            serving,
            http: http.unwrap(),
            stop,
            length: length as u64,
            digest,
            blob: blob.parse().unwrap(),
            supernode_dir,
            node_dirs: Vec::new(),
        }
    }

    /// Stops the supernode and starts it again with what it has on its disk, at another address.
    pub(crate) async fn restart(&mut self) {
        self.stop.cancel();
        let stopped = tokio::time::timeout(DEADLINE, &mut self.serving).await;
        stopped.expect("a supernode stops").unwrap().unwrap();
        self.stop = CancellationToken::new();
        (self.supernode, self.serving) = serve(self.supernode_dir.path(), self.stop.clone()).await;
    }

    /// The key that signs tickets, which only the supernode and its tests have.
    pub(crate) fn ticket_key(&self) -> Vec<u8> {
        std::fs::read(self.supernode_dir.path().join("ticket-key")).unwrap()
    }

    pub(crate) async fn node(&mut self, name: &str) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let config = NodeConfig {
            data_dir: dir.path().to_owned(),
            supernodes: vec![self.supernode.clone()],
            origin_of: flotilla_registry::origin_of,
            join_token: Some(JOIN_TOKEN.to_owned()),
            node_name: name.to_owned(),
            cache_quota: 1 << 30,
            upload_rate: Some(50_000_000),
            download_rate: None,
        };
        self.node_dirs.push(dir);
        let peers = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Node::start(config, peers, self.stop.clone()).await.unwrap()
    }

    /// Has the node get the whole layer.
    pub(crate) async fn pull(&self, node: &Node) {
        self.pull_for(node, &[]).await;
    }

    /// The same as a part of these images.
    pub(crate) async fn pull_for(&self, node: &Node, images: &[String]) {
        let request = ContentRequest {
            url: self.blob.clone(),
            headers: Vec::new(),
            digest: Some(self.digest.clone()),
            filter_query: Vec::new(),
        };
        let known = LayerFacts {
            images: images.to_vec(),
            ..LayerFacts::default()
        };
        let layer = node.open_for(request, &known).await.unwrap();
        let completed = tokio::time::timeout(DEADLINE, layer.completed()).await;
        completed.expect("the layer in time").unwrap();
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        self.supernode.join(path).unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let answer = self.http.get(self.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json().await.unwrap()
    }

    /// What `path` answers once it is as wanted.
    pub(crate) async fn json_when(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waited = tokio::time::timeout(DEADLINE, async {
            loop {
                last = self.json(path).await;
                if wanted(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        assert!(waited.await.is_ok(), "{path} stays {last:#}");
        last
    }
}

async fn serve(dir: &Path, stop: CancellationToken) -> (Url, JoinHandle<anyhow::Result<()>>) {
    let config = SupernodeConfig {
        join_token: Some(JOIN_TOKEN.to_owned()),
        stats_token: Some(STATS_TOKEN.to_owned()),
        ..SupernodeConfig::new(dir, 1 << 30)
    };
    loopback::serve(&config, stop).await
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
