//! The whole stack on loopback: a registry, a supernode, a node and its proxy.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use flotilla_client::{Node, NodeConfig};
use flotilla_proxy::ProxyConfig;
use flotilla_registry::login::LoginConfig;
use flotilla_seeder::{Supernode, SupernodeConfig};
use flotilla_torrents::DigestHasher;
use futures_util::stream;
use http::request::Parts;
use http::{Response, Uri};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::io::InspectReader;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fakes::raw_client::{RawResponse, exchange};
use crate::fakes::{self, RunningProxy};

/// `operator:harbour-light`
pub(crate) const LOGIN: &str = "Authorization: Basic b3BlcmF0b3I6aGFyYm91ci1saWdodA==\r\n";
const PASSWORD: [&str; 2] = ["operator", "harbour-light"];

/// Supernode, node and proxy; their registry is the proxy's default one.
pub(crate) struct Stack {
    pub(crate) registry: SocketAddr,
    pub(crate) proxy: RunningProxy,
    /// Of the node.
    pub(crate) data_dir: PathBuf,
    pub(crate) supernode: String,
    _dirs: [TempDir; 2],
    _stop: DropGuard,
}

/// Bytes that the node may keep where a test does not say otherwise.
pub(crate) const QUOTA: u64 = 1 << 30;

impl Stack {
    pub(crate) async fn before(registry: SocketAddr) -> Self {
        Self::with(registry, QUOTA, ProxyConfig::default()).await
    }

    /// With a supernode that has logins of its own.
    pub(crate) async fn with_logins(registry: SocketAddr, logins: LoginConfig) -> Self {
        Self::start(registry, QUOTA, ProxyConfig::default(), logins).await
    }

    /// With a node that may keep `quota` bytes.
    pub(crate) async fn with(registry: SocketAddr, quota: u64, config: ProxyConfig) -> Self {
        Self::start(registry, quota, config, LoginConfig::default()).await
    }

    async fn start(
        registry: SocketAddr,
        quota: u64,
        config: ProxyConfig,
        logins: LoginConfig,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let stop = CancellationToken::new();
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (api, peers) = (free_listener().await, free_listener().await);
        let supernode = format!("http://{}", api.local_addr().unwrap());
        let config_of_supernode = SupernodeConfig {
            logins,
            ..SupernodeConfig::new(dirs[0].path(), 1 << 30)
        };
        let started = Supernode::start(&config_of_supernode, api, peers, stop.clone()).unwrap();
        tokio::spawn(started.serve());
        let node = node(dirs[1].path(), &supernode, quota, &stop).await;
        let config = ProxyConfig {
            registry: Some(format!("http://{registry}").parse().unwrap()),
            ..config
        };
        let proxy = fakes::proxy(config, node).await;
        Self {
            registry,
            proxy,
            data_dir: dirs[1].path().to_owned(),
            supernode,
            _dirs: dirs,
            _stop: stop.drop_guard(),
        }
    }

    /// What a proxy on another node gets.
    pub(crate) async fn ask_elsewhere(&self, path: &str, fields: &str) -> RawResponse {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let node = node(dir.path(), &self.supernode, QUOTA, &stop).await;
        let proxy = fakes::proxy(ProxyConfig::default(), node).await;
        let url = format!("http://{}{path}", self.registry);
        let response = exchange(proxy.addr, self.request("GET", &url, fields, b"")).await;
        stop.cancel();
        response
    }

    /// A request through the proxy, in absolute-form.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        fields: &str,
        body: &[u8],
    ) -> RawResponse {
        let url = format!("http://{}{path}", self.registry);
        exchange(self.proxy.addr, self.request(method, &url, fields, body)).await
    }

    /// The same request, to the registry itself.
    pub(crate) async fn ask_direct(
        &self,
        method: &str,
        path: &str,
        fields: &str,
        body: &[u8],
    ) -> RawResponse {
        exchange(self.registry, self.request(method, path, fields, body)).await
    }

    pub(crate) fn request(&self, method: &str, target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
        let length = match (method, body.len()) {
            ("GET" | "HEAD", 0) => String::new(),
            (_, length) => format!("Content-Length: {length}\r\n"),
        };
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{length}{fields}\r\n",
            self.registry
        );
        [head.as_bytes(), body].concat()
    }
}

async fn node(dir: &Path, supernode: &str, quota: u64, stop: &CancellationToken) -> Node {
    let config = NodeConfig {
        data_dir: dir.to_owned(),
        supernodes: vec![supernode.parse().unwrap()],
        origin_of: flotilla_registry::origin_of,
        join_token: None,
        node_name: "test".to_owned(),
        cache_quota: quota,
        upload_rate: None,
        download_rate: None,
    };
    let node = Node::start(config, free_listener().await, stop.clone());
    node.await.unwrap()
}

async fn free_listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Debian's docker-registry, with a login.
pub(crate) struct RealRegistry {
    pub(crate) addr: SocketAddr,
    process: Child,
    _dir: TempDir,
}

impl RealRegistry {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let passwords = Command::new("htpasswd")
            .arg("-Bbn")
            .args(PASSWORD)
            .output()
            .expect("htpasswd (package apache2-utils)");
        let file = dir.path().join("htpasswd");
        std::fs::write(&file, passwords.stdout).unwrap();
        // Free now; another process could still take it.
        let addr = free_listener().await.local_addr().unwrap();
        let settings = serde_json::json!({
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {
                "filesystem": {"rootdirectory": dir.path().join("blobs")},
                "delete": {"enabled": true},
            },
            "http": {"addr": addr},
            "auth": {"htpasswd": {"realm": "test", "path": file}},
        });
        let configuration = dir.path().join("config.json");
        std::fs::write(&configuration, settings.to_string()).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry (package docker-registry)");
        let registry = Self {
            addr,
            process,
            _dir: dir,
        };
        let ready = async {
            while TcpStream::connect(addr).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(fakes::DEADLINE, ready)
            .await
            .expect("docker-registry listens");
        registry
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A way to the registry that counts what comes from there.
pub(crate) struct CountedWay {
    pub(crate) addr: SocketAddr,
    sent: Arc<AtomicU64>,
}

impl CountedWay {
    pub(crate) async fn to(registry: SocketAddr) -> Self {
        let listener = free_listener().await;
        let addr = listener.local_addr().unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    let server = TcpStream::connect(registry).await.unwrap();
                    let mut server = InspectReader::new(server, |bytes: &[u8]| {
                        counter.fetch_add(bytes.len() as u64, Ordering::SeqCst);
                    });
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { addr, sent }
    }

    /// Bytes that the registry has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

/// Pushes a blob to the registry itself; its digest.
pub(crate) async fn push_blob(stack: &Stack, repository: &str, blob: &[u8]) -> String {
    let digest = DigestHasher::sha256_of(blob).to_string();
    let path = format!("/v2/{repository}/blobs/uploads/");
    let begun = stack.ask_direct("POST", &path, LOGIN, b"").await;
    let location: Uri = begun.field("location").unwrap().parse().unwrap();
    let path = format!("{}&digest={digest}", location.path_and_query().unwrap());
    let put = stack.ask_direct("PUT", &path, LOGIN, blob).await;
    assert_eq!(put.status(), 201, "{}", put.text());
    digest
}

/// Pushes an image of one layer to the registry itself; the manifest and its digest.
pub(crate) async fn push_image(
    stack: &Stack,
    repository: &str,
    tag: &str,
    layer: &[u8],
) -> (String, String) {
    let config = b"{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";
    let config_digest = push_blob(stack, repository, config).await;
    let layer_digest = push_blob(stack, repository, layer).await;
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer.len()}],
    })
    .to_string();
    let fields = format!("{LOGIN}Content-Type: {MANIFEST}\r\n");
    let path = format!("/v2/{repository}/manifests/{tag}");
    let put = stack
        .ask_direct("PUT", &path, &fields, manifest.as_bytes())
        .await;
    assert_eq!(put.status(), 201, "{}", put.text());
    let digest = DigestHasher::sha256_of(manifest.as_bytes()).to_string();
    (manifest, digest)
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry that answers as the test says, and keeps what it was asked.
#[derive(Clone)]
pub(crate) struct Scripted {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Parts>>>,
}

impl Scripted {
    pub(crate) async fn start(
        answer: impl Fn(&Parts) -> Response<Body> + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::start_on(free_listener().await, answer)
    }

    pub(crate) fn start_on(
        listener: TcpListener,
        answer: impl Fn(&Parts) -> Response<Body> + Clone + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let router = Router::new().fallback(move |request: Request| {
            let (record, answer) = (Arc::clone(&record), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                // Registries answer uploads when they have them.
                let _ = axum::body::to_bytes(body, usize::MAX).await;
                let response = answer(&parts);
                record.lock().unwrap().push(parts);
                response
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { addr, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Parts> {
        self.seen.lock().unwrap().clone()
    }

    /// Requests for a whole blob.
    pub(crate) fn whole_gets(&self) -> usize {
        let seen = self.seen();
        let blobs = seen.iter().filter(|parts| {
            parts.uri.path().contains("/blobs/") && !parts.headers.contains_key("range")
        });
        blobs.count()
    }
}

/// What a plain registry answers for its only blob: whole, or one range of it.
pub(crate) fn blob_answer(parts: &Parts, blob: &[u8]) -> Response<Body> {
    let length = blob.len();
    let range = parts.headers.get("range").map(|range| {
        let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let last = last
            .parse()
            .map_or(length - 1, |last: usize| last.min(length - 1));
        (first.parse::<usize>().unwrap(), last)
    });
    let answer = Response::builder();
    match range {
        None => answer.body(Body::from(blob.to_vec())).unwrap(),
        Some((first, last)) => answer
            .status(206)
            .header("content-range", format!("bytes {first}-{last}/{length}"))
            .body(Body::from(blob[first..=last].to_vec()))
            .unwrap(),
    }
}

pub(crate) fn path_of(blob: &[u8]) -> String {
    format!("/v2/team/app/blobs/{}", DigestHasher::sha256_of(blob))
}

/// Asks and reads the head only.
pub(crate) async fn begin(stack: &Stack, path: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(stack.proxy.addr).await.unwrap();
    let url = format!("http://{}{path}", stack.registry);
    let request = stack.request("GET", &url, LOGIN, b"");
    stream.write_all(&request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(head).unwrap(), stream)
}

/// A registry that sends its blob only up to a watched position.
pub(crate) async fn withholding(blob: &Arc<Vec<u8>>, up_to: &watch::Receiver<usize>) -> Scripted {
    let (blob, up_to) = (Arc::clone(blob), up_to.clone());
    Scripted::start(move |parts| {
        if parts.headers.contains_key("range") {
            return blob_answer(parts, &blob);
        }
        let length = blob.len();
        let state = (Arc::clone(&blob), up_to.clone(), 0);
        let body = stream::unfold(state, move |(blob, mut up_to, sent)| async move {
            if sent == length {
                return None;
            }
            let end = *up_to.wait_for(|end| *end > sent).await.ok()?;
            let bytes = Bytes::copy_from_slice(&blob[sent..end]);
            Some((Ok::<_, std::io::Error>(bytes), (blob, up_to, end)))
        });
        Response::builder()
            .header("content-length", length)
            .body(Body::from_stream(body))
            .unwrap()
    })
    .await
}
