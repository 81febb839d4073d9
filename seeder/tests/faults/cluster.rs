//! A supernode and nodes on loopback, before a registry whose answers a test decides.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use flotilla_client::{ContentRequest, Layer, Node, NodeConfig, ReadError};
use flotilla_seeder::SupernodeConfig;
use flotilla_torrents::{Digest, DigestHasher};
use futures_util::{StreamExt as _, stream};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::loopback;

/// Every wait of these tests ends by then.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const CREDENTIALS: &str = "Basic bGV0bWU6aW4=";
const PART: usize = 64 * 1024;

/// What the registry does with one request for bytes.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// The byte there is another one.
    WrongByte(usize),
}

pub(crate) struct Registry {
    pub(crate) body: Bytes,
    /// Of the next requests; the others are answered as they should be.
    faults: Mutex<VecDeque<Fault>>,
    /// Bytes of blobs that it was asked for, one-byte checks left out.
    pub(crate) asked: Mutex<u64>,
    /// Time between two parts of a body.
    pause: Duration,
}

impl Registry {
    pub(crate) fn new(length: usize) -> Self {
        let body = (0..length as u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes());
        Self {
            body: body.take(length).collect(),
            faults: Mutex::default(),
            asked: Mutex::default(),
            pause: Duration::ZERO,
        }
    }

    pub(crate) fn failing(self, faults: &[Fault]) -> Self {
        self.faults.lock().unwrap().extend(faults);
        self
    }

    pub(crate) fn pausing(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    pub(crate) fn digest(&self) -> Digest {
        DigestHasher::sha256_of(&self.body)
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        if headers
            .get(header::AUTHORIZATION)
            .is_none_or(|shown| shown != CREDENTIALS)
        {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let total = self.body.len();
        let range = headers.get(header::RANGE);
        let range = range.map(|range| range.to_str().unwrap().trim_start_matches("bytes="));
        let (start, end) = match range.and_then(|range| range.split_once('-')) {
            None => (0, total),
            Some((start, "")) => (start.parse().unwrap(), total),
            Some((start, last)) => (start.parse().unwrap(), last.parse::<usize>().unwrap() + 1),
        };
        let mut bytes = self.body.slice(start..end).to_vec();
        if bytes.len() > 1 {
            *self.asked.lock().unwrap() += bytes.len() as u64;
            match self.faults.lock().unwrap().pop_front() {
                Some(Fault::WrongByte(at)) => bytes[at - start] ^= 1,
                None => {}
            }
        }
        let pause = self.pause;
        let parts: Vec<_> = bytes.chunks(PART).map(Bytes::copy_from_slice).collect();
        let parts = stream::iter(parts).then(move |part| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(part)
        });
        let fields = [
            (header::CONTENT_LENGTH, bytes.len().to_string()),
            (
                header::CONTENT_RANGE,
                format!("bytes {start}-{}/{total}", end - 1),
            ),
        ];
        let status = if range.is_some() {
            StatusCode::PARTIAL_CONTENT
        } else {
            StatusCode::OK
        };
        (status, fields, Body::from_stream(parts)).into_response()
    }
}

pub(crate) struct Cluster {
    pub(crate) registry: Arc<Registry>,
    pub(crate) blob: Url,
    supernodes: Vec<Url>,
    stop: CancellationToken,
    pub(crate) dirs: Vec<TempDir>,
}

impl Cluster {
    pub(crate) async fn start(registry: Registry) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let registry = Arc::new(registry);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap();
        let blob = format!("http://{host}/v2/a/blobs/{}", registry.digest());
        let served = async |State(registry): State<Arc<Registry>>, headers: HeaderMap| {
            registry.answer(&headers)
        };
        let router = Router::new()
            .fallback(served)
            .with_state(Arc::clone(&registry));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (dir, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let config = SupernodeConfig {
            join_token: Some("a secret of this cluster".to_owned()),
            ..SupernodeConfig::new(dir.path(), 1 << 30)
        };
        let (supernode, _) = loopback::serve(&config, stop.clone()).await;
        Self {
            registry,
            blob: blob.parse().unwrap(),
            supernodes: vec![supernode],
            stop,
            dirs: vec![dir],
        }
    }

    /// A further supernode; its directory.
    pub(crate) async fn supernode(&mut self) -> PathBuf {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let config = SupernodeConfig {
            join_token: Some("a secret of this cluster".to_owned()),
            ..SupernodeConfig::new(dir.path(), 1 << 30)
        };
        let (supernode, _) = loopback::serve(&config, self.stop.clone()).await;
        self.supernodes.push(supernode);
        self.dirs.push(dir);
        path
    }

    /// The directory of the supernode that is responsible for the blob.
    pub(crate) fn responsible(&self, dirs: &[PathBuf]) -> usize {
        let urls = self.supernodes.iter().map(Url::as_str);
        assert_eq!(dirs.len(), self.supernodes.len());
        flotilla_cluster::rendezvous::ranked(&self.registry.digest().to_string(), urls)[0]
    }

    pub(crate) async fn node(&mut self) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let config = NodeConfig {
            data_dir: dir.path().to_owned(),
            supernodes: self.supernodes.clone(),
            origin_of: flotilla_registry::origin_of,
            join_token: Some("a secret of this cluster".to_owned()),
            node_name: "test".to_owned(),
            cache_quota: 1 << 30,
            upload_rate: None,
            download_rate: None,
        };
        self.dirs.push(dir);
        let peers = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Node::start(config, peers, self.stop.clone()).await.unwrap()
    }

    pub(crate) fn request(&self) -> ContentRequest {
        ContentRequest {
            url: self.blob.clone(),
            headers: vec![("Authorization".to_owned(), CREDENTIALS.to_owned())],
            digest: Some(self.registry.digest()),
            filter_query: Vec::new(),
        }
    }

    /// How often the registry was asked for the whole, in bytes.
    pub(crate) fn copies(&self) -> f64 {
        *self.registry.asked.lock().unwrap() as f64 / self.registry.body.len() as f64
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Reads to the end, or to the error.
pub(crate) async fn read(layer: &Layer, from: u64) -> (Vec<u8>, Option<ReadError>) {
    let mut reader = layer.read(from..layer.length());
    let mut bytes = Vec::new();
    loop {
        let part = tokio::time::timeout(DEADLINE, reader.next()).await;
        match part.expect("the layer in time") {
            Some(Ok(part)) => bytes.extend_from_slice(&part),
            Some(Err(error)) => return (bytes, Some(error)),
            None => return (bytes, None),
        }
    }
}
