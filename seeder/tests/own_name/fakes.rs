//! A registry with a token service as Harbor has one, and a supernode in front of it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use data_encoding::BASE64;
use flotilla_client::{Node, NodeConfig};
use flotilla_cluster::messages::preheats::PreheatEvent;
use flotilla_registry::login::LoginConfig;
use flotilla_seeder::{PreheatTriggers, Supernode, SupernodeConfig};
use flotilla_torrents::{Digest, DigestHasher};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Every wait of these tests ends by then.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const JOIN_TOKEN: &str = "a secret of this cluster";
const ROBOT: &str = "robot$preheat:harbour-light";

/// What the registry has, and what it was asked.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) blobs: HashMap<String, Bytes>,
    /// By `REPOSITORY TAG-OR-DIGEST`.
    pub(crate) manifests: HashMap<String, Bytes>,
    /// Tokens that it takes.
    pub(crate) tokens: HashSet<String>,
    /// Whole blobs that were read, in order.
    pub(crate) whole: Vec<String>,
    /// Requests to the token service: method, query, user and password.
    pub(crate) logins: Vec<(Method, String, Option<String>)>,
    pub(crate) requests: usize,
    /// Where the token service sends its callers.
    pub(crate) realm_redirect: Option<String>,
    /// Whole blobs end in the middle, and the rest does not come.
    pub(crate) stalls: bool,
    /// Bytes of blobs that were sent.
    pub(crate) sent: usize,
    /// The next whole blob breaks off in the middle, and the tokens so far are refused then.
    pub(crate) breaks: bool,
}

#[derive(Clone)]
pub(crate) struct Registry {
    pub(crate) addr: SocketAddr,
    pub(crate) content: Arc<Mutex<Content>>,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Self {
            addr: listener.local_addr().unwrap(),
            content: Arc::default(),
        };
        let answer = async |State(registry): State<Self>, request: Request| {
            let (parts, _) = request.into_parts();
            registry.answer(&parts)
        };
        let router = Router::new().fallback(answer).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        registry
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }

    /// Adds a blob of pseudo-random bytes; its descriptor.
    pub(crate) fn blob(&self, seed: u32, length: usize) -> Value {
        let words =
            (0..u32::MAX).flat_map(|n| (n ^ seed).wrapping_mul(2_654_435_761).to_be_bytes());
        let bytes: Bytes = words.take(length).collect();
        let digest = DigestHasher::sha256_of(&bytes).to_string();
        self.lock().blobs.insert(digest.clone(), bytes);
        json!({"mediaType": "x", "digest": digest, "size": length})
    }

    /// Adds a manifest; its descriptor.
    pub(crate) fn manifest(&self, repository: &str, tag: &str, manifest: &Value) -> Value {
        let bytes = Bytes::from(manifest.to_string());
        let digest = DigestHasher::sha256_of(&bytes).to_string();
        let size = bytes.len();
        for reference in [tag, &digest] {
            let name = format!("{repository} {reference}");
            self.lock().manifests.insert(name, bytes.clone());
        }
        json!({"mediaType": "x", "digest": digest, "size": size})
    }

    /// A token of another user.
    pub(crate) fn token(&self) -> String {
        let mut content = self.lock();
        let token = format!("token-{}-{}", content.tokens.len(), content.logins.len());
        content.tokens.insert(token.clone());
        token
    }

    fn answer(&self, parts: &Parts) -> Response {
        let path = parts.uri.path();
        if path == "/service/token" {
            return self.give_token(parts);
        }
        let mut content = self.lock();
        content.requests += 1;
        let shown = parts.headers.get(header::AUTHORIZATION);
        let token = shown.and_then(|value| value.to_str().unwrap().strip_prefix("Bearer "));
        let (repository, kind, reference) = {
            let rest = path.strip_prefix("/v2/").unwrap();
            let (rest, reference) = rest.rsplit_once('/').unwrap();
            let (repository, kind) = rest.rsplit_once('/').unwrap();
            (repository, kind, reference)
        };
        if !token.is_some_and(|token| content.tokens.contains(token)) {
            let challenge = format!(
                "Bearer realm=\"http://{}/service/token\",service=\"harbor-registry\",scope=\"repository:{repository}:pull\"",
                self.addr
            );
            let headers = [(header::WWW_AUTHENTICATE, challenge)];
            return (StatusCode::UNAUTHORIZED, headers, "{}").into_response();
        }
        if kind == "manifests" {
            let found = content.manifests.get(&format!("{repository} {reference}"));
            let accepts = parts.headers.get_all(header::ACCEPT).iter().count();
            assert!(accepts >= 6 || found.is_none(), "{accepts} lines of Accept");
            return match found {
                Some(manifest) => manifest.clone().into_response(),
                None => {
                    let error = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]});
                    (StatusCode::NOT_FOUND, error.to_string()).into_response()
                }
            };
        }
        match content.blobs.get(reference).cloned() {
            Some(blob) => blob_answer(&mut content, reference, &blob, parts),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn give_token(&self, parts: &Parts) -> Response {
        let shown = parts.headers.get(header::AUTHORIZATION).map(|value| {
            let basic = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
            String::from_utf8(BASE64.decode(basic.as_bytes()).unwrap()).unwrap()
        });
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let redirect = {
            let mut content = self.lock();
            content
                .logins
                .push((parts.method.clone(), query, shown.clone()));
            content.realm_redirect.clone()
        };
        if let Some(elsewhere) = redirect {
            return (StatusCode::FOUND, [(header::LOCATION, elsewhere)]).into_response();
        }
        if parts.method != Method::GET {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        if shown.as_deref() != Some(ROBOT) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let token = self.token();
        axum::Json(json!({"token": token, "access_token": "", "expires_in": 1800})).into_response()
    }
}

/// A blob, whole or from an offset on.
fn blob_answer(content: &mut Content, digest: &str, blob: &Bytes, parts: &Parts) -> Response {
    let range = parts.headers.get(header::RANGE);
    let range = range.map(|range| range.to_str().unwrap().strip_prefix("bytes=").unwrap());
    let total = blob.len();
    match range.and_then(|range| range.split_once('-')) {
        None => {
            content.whole.push(digest.to_owned());
            let length = (header::CONTENT_LENGTH, total);
            let half = Ok::<_, std::io::Error>(blob.slice(..total / 2));
            if content.stalls {
                let stalled = stream::iter([half]).chain(stream::pending());
                return ([length], Body::from_stream(stalled)).into_response();
            }
            content.sent += total;
            if !std::mem::take(&mut content.breaks) {
                return ([length], Body::from(blob.clone())).into_response();
            }
            content.tokens.clear();
            let broken = Err(std::io::Error::other("broken on purpose"));
            ([length], Body::from_stream(stream::iter([half, broken]))).into_response()
        }
        Some((first, last)) => {
            let first: usize = first.parse().unwrap();
            let last = last.parse().unwrap_or(total - 1);
            let range = format!("bytes {first}-{last}/{total}");
            let body = blob.slice(first..=last);
            content.sent += body.len();
            let headers = [(header::CONTENT_RANGE, range)];
            (StatusCode::PARTIAL_CONTENT, headers, body).into_response()
        }
    }
}

/// A supernode that logs in as its robot, and members of its cluster.
pub(crate) struct Cluster {
    pub(crate) supernode: Url,
    config: SupernodeConfig,
    triggers: PreheatTriggers,
    serving: Option<JoinHandle<anyhow::Result<()>>>,
    stop_supernode: CancellationToken,
    stop: CancellationToken,
    dirs: Vec<TempDir>,
}

impl Cluster {
    /// With credentials for `registry`, and the registries `listed`.
    pub(crate) async fn start(registry: Option<&Registry>, listed: &[String]) -> Self {
        Self::with_triggers(registry, listed, PreheatTriggers::default()).await
    }

    pub(crate) async fn with_triggers(
        registry: Option<&Registry>,
        listed: &[String],
        triggers: PreheatTriggers,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let logins = LoginConfig {
            auth_file: registry.map(|registry| auth_file(dir.path(), &registry.addr.to_string())),
            registries: listed.iter().map(|name| name.parse().unwrap()).collect(),
        };
        let config = SupernodeConfig {
            join_token: Some(JOIN_TOKEN.to_owned()),
            logins,
            ..SupernodeConfig::new(dir.path(), 1 << 30)
        };
        let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut cluster = Self {
            supernode: format!("http://{}", api.local_addr().unwrap())
                .parse()
                .unwrap(),
            config,
            triggers,
            serving: None,
            stop_supernode: CancellationToken::new(),
            stop: CancellationToken::new(),
            dirs: vec![dir],
        };
        cluster.serve(api).await;
        cluster
    }

    async fn serve(&mut self, mut api: TcpListener) {
        let at = api.local_addr().unwrap();
        let waiting = tokio::time::timeout(DEADLINE, async {
            loop {
                let peers = TcpListener::bind("127.0.0.1:0").await.unwrap();
                self.stop_supernode = self.stop.child_token();
                let stop = self.stop_supernode.clone();
                match Supernode::start(&self.config, api, peers, stop) {
                    Ok(started) => return started,
                    // Tasks of the one before are about to end.
                    Err(error) => assert!(error.to_string().contains("in use"), "{error}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                api = TcpListener::bind(at).await.unwrap();
            }
        });
        let started = waiting.await.expect("starts in time");
        let started = started.with_preheat_triggers(self.triggers.clone());
        self.serving = Some(tokio::spawn(started.unwrap().serve()));
    }

    /// Stops the supernode, does something, and starts another one in the same place.
    pub(crate) async fn restart(&mut self, meanwhile: impl FnOnce()) {
        self.stop_supernode.cancel();
        let stopped = self.serving.take().unwrap();
        let stopped = tokio::time::timeout(DEADLINE, stopped).await;
        stopped.expect("stops in time").unwrap().unwrap();
        meanwhile();
        let port = self.supernode.port().unwrap();
        let api = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        self.serve(api).await;
    }

    pub(crate) fn jobs_dir(&self) -> std::path::PathBuf {
        self.config.data_dir.join("preheat-jobs")
    }

    pub(crate) fn job_files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.jobs_dir()).unwrap();
        let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        texts.collect()
    }

    /// Status and body of a request of a member.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let url = self.supernode.join(path).unwrap();
        let request = reqwest::Client::new().request(method, url);
        let request = request.bearer_auth(JOIN_TOKEN).json(body);
        let asked = async {
            let reply = request.send().await.unwrap();
            let status = reply.status().as_u16();
            (status, reply.json().await.unwrap())
        };
        tokio::time::timeout(DEADLINE, asked)
            .await
            .expect("in time")
    }

    pub(crate) async fn node(&mut self) -> Node {
        self.node_called("test").await
    }

    pub(crate) async fn node_called(&mut self, name: &str) -> Node {
        self.node_with_quota(name, 1 << 30).await
    }

    pub(crate) async fn node_with_quota(&mut self, name: &str, cache_quota: u64) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let config = NodeConfig {
            data_dir: dir.path().to_owned(),
            supernodes: vec![self.supernode.clone()],
            origin_of: flotilla_registry::origin_of,
            join_token: Some(JOIN_TOKEN.to_owned()),
            node_name: name.to_owned(),
            cache_quota,
            upload_rate: None,
            download_rate: None,
        };
        self.dirs.push(dir);
        let peers = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Node::start(config, peers, self.stop.clone()).await.unwrap()
    }

    /// Status and body of a preheat request.
    pub(crate) async fn post(&self, join_token: &str, request: &Value) -> (u16, String) {
        let url = self.supernode.join("v1/preheat-jobs").unwrap();
        let post = reqwest::Client::new().post(url).json(request);
        answer_to(post.bearer_auth(join_token)).await
    }

    /// The events of a preheat, less heartbeats.
    pub(crate) async fn preheat(&self, request: &Value) -> Vec<PreheatEvent> {
        let (status, body) = self.post(JOIN_TOKEN, request).await;
        assert_eq!(status, 200, "{body}");
        let job: Value = serde_json::from_str(&body).unwrap();
        self.events(&job["id"]).await
    }

    /// The events of a job until its end, less heartbeats.
    pub(crate) async fn events(&self, job: &Value) -> Vec<PreheatEvent> {
        let path = format!("v1/preheat-jobs/{job}/events");
        let url = self.supernode.join(&path).unwrap();
        let get = reqwest::Client::new().get(url).bearer_auth(JOIN_TOKEN);
        let (status, body) = answer_to(get).await;
        assert_eq!(status, 200, "{body}");
        let events = body.lines().map(|line| serde_json::from_str(line).unwrap());
        events
            .filter(|event| !matches!(event, PreheatEvent::Heartbeat {}))
            .collect()
    }
}

async fn answer_to(request: reqwest::RequestBuilder) -> (u16, String) {
    let asked = async {
        let reply = request.send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    };
    tokio::time::timeout(DEADLINE, asked)
        .await
        .expect("in time")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn auth_file(dir: &Path, registry: &str) -> std::path::PathBuf {
    let path = dir.join("auth.json");
    let auth = BASE64.encode(ROBOT.as_bytes());
    let file = json!({"auths": {registry: {"auth": auth}}});
    std::fs::write(&path, file.to_string()).unwrap();
    path
}

pub(crate) fn digest_of(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}
