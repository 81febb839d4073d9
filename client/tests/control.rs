//! A host and its control socket.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_client::control::cache::Outcome;
use flotilla_client::control::client::{ControlError, FetchError, FetchedFile};
use flotilla_client::control::{self, ContentSource, SOCKET};
use flotilla_client::store::placement::place;
use flotilla_client::{
    ContentRequest, DaemonClient, Layer, Node, NodeConfig, OpenError, StoreError, StoredLayer,
};
use flotilla_torrents::{ContentId, Digest, DigestHasher, Geometry};
use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Every wait of these tests ends by then.
const DEADLINE: Duration = Duration::from_secs(60);
const SOURCE: &str = "http://registry.test:5000";
const QUOTA: u64 = 10 << 20;

/// A node without supernodes, whose source lets in who shows a password.
struct Host {
    node: Node,
    daemon: DaemonClient,
    stop: CancellationToken,
    dir: TempDir,
}

struct Guarded(Node);

impl ContentSource for Guarded {
    fn open(&self, request: ContentRequest) -> BoxFuture<'_, Result<Layer, OpenError>> {
        async move {
            if !request
                .headers
                .iter()
                .any(|(_, value)| value == "let me in")
            {
                return Err(OpenError::Refused {
                    status: 401,
                    reason: "who are you?".to_owned(),
                });
            }
            let named = request.url.path().rsplit('/').next().unwrap().parse();
            let here = self.0.local(&named.unwrap(), &request.url).await;
            here.ok_or_else(|| OpenError::Unswarmable("not here".to_owned()))
        }
        .boxed()
    }

    fn origin_of(&self, url: &Url) -> String {
        url.origin().ascii_serialization()
    }
}

impl Host {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let config = NodeConfig {
            data_dir: dir.path().to_owned(),
            supernodes: Vec::new(),
            origin_of: |url| url.origin().ascii_serialization(),
            join_token: None,
            node_name: "test".to_owned(),
            cache_quota: QUOTA,
            upload_rate: None,
            download_rate: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Node::start(config, listener, stop.clone()).await.unwrap();
        control::offer(node.engine(), Some(Arc::new(Guarded(node.clone())))).unwrap();
        let daemon = DaemonClient::connect(&dir.path().join(SOCKET)).await;
        Self {
            node,
            daemon: daemon.unwrap(),
            stop,
            dir,
        }
    }

    /// Puts a complete layer into the store.
    fn hold(&self, length: usize) -> Arc<StoredLayer> {
        let bytes: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
        let sha256 = DigestHasher::sha256_of(&bytes);
        let geometry = Geometry::for_length(length as u64).unwrap();
        let store = self.node.engine().store();
        let layer = store
            .layer_or_create(&ContentId::blob(&sha256), geometry, SOURCE)
            .unwrap();
        store.complete(&layer, &bytes, sha256).unwrap();
        layer
    }

    fn request(&self, layer: &StoredLayer, password: &str) -> ContentRequest {
        let digest = layer.content().digest().unwrap();
        ContentRequest {
            url: format!("{SOURCE}/v2/a/blobs/{digest}").parse().unwrap(),
            headers: vec![("Authorization".to_owned(), password.to_owned())],
            digest: Some(digest),
            filter_query: Vec::new(),
        }
    }

    async fn fetch(&self, layer: &StoredLayer, password: &str) -> Result<FetchedFile, FetchError> {
        let request = self.request(layer, password);
        self.daemon.fetch(&request, |_| {}).await
    }

    fn has_room_for(&self, length: u64) -> Result<(), StoreError> {
        let content = ContentId::blob(&DigestHasher::sha256_of(&length.to_be_bytes()));
        let geometry = Geometry::for_length(length).unwrap();
        let store = self.node.engine().store();
        let created = store.layer_or_create(&content, geometry, SOURCE);
        created.map(|_| ())
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting)
        .await
        .expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetched_layer_stays_until_its_client_hangs_up() {
    let host = Host::start().await;
    let layer = host.hold(6 << 20);
    let fetched = host.fetch(&layer, "let me in").await.unwrap();
    assert_eq!(Some(&fetched.layer().sha256), layer.sealed().as_ref());
    let refused = host.has_room_for(5 << 20);
    assert!(matches!(refused, Err(StoreError::Full { .. })));
    let content = std::slice::from_ref(layer.content());
    assert_eq!(host.daemon.remove(content).await.unwrap(), [Outcome::InUse]);

    let output = host.dir.path().join("out");
    place(&fetched.layer().path, &output).unwrap();
    drop(fetched);
    until(|| !layer.is_leased()).await;
    host.has_room_for(5 << 20).unwrap();
    assert!(!layer.data_path().exists());
    let found = DigestHasher::sha256_of(&std::fs::read(&output).unwrap());
    assert_eq!(layer.content().digest(), Some(found));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_by_the_source_gets_no_layer_that_is_here() {
    let host = Host::start().await;
    let layer = host.hold(1 << 20);
    let refused = host.fetch(&layer, "please").await.unwrap_err();
    assert!(matches!(refused, FetchError::Refused { status: 401, .. }));
    assert!(!layer.is_leased());
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_the_client_wants_is_refused_with_what_it_is() {
    let host = Host::start().await;
    let layer = host.hold(1 << 20);
    let mut request = host.request(&layer, "let me in");
    request.digest = Some(DigestHasher::sha256_of(b"something else"));
    let refused = host.daemon.fetch(&request, |_| {}).await.unwrap_err();
    let FetchError::OtherDigest { found } = refused else {
        panic!("{refused}");
    };
    assert_eq!(Some(found), layer.content().digest());
    until(|| !layer.is_leased()).await;

    let sha512: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
    request.digest = Some(sha512);
    let refused = host.daemon.fetch(&request, |_| {}).await.unwrap_err();
    assert!(
        matches!(refused, FetchError::OtherDigest { .. }),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_listed_pinned_and_removed() {
    let host = Host::start().await;
    let (kept, other) = (host.hold(3 << 20), host.hold(2 << 20));
    let (kept, other) = (kept.content().clone(), other.content().clone());
    let both = [kept.clone(), other.clone()];
    let pinned = host.daemon.pin(&both[..1], true).await.unwrap();
    assert_eq!(pinned, [Outcome::Done]);
    let listed = host.daemon.layers().await.unwrap();
    assert_eq!(listed.quota, Some(QUOTA));
    assert_eq!(listed.layers.len(), 2);
    for layer in &listed.layers {
        assert_eq!((layer.held, &*layer.origin), (layer.length, SOURCE));
        assert_eq!(layer.pinned, layer.content == kept);
        assert!(layer.sealed.is_some() && !layer.in_use);
    }

    let removed = host.daemon.remove(&both).await.unwrap();
    assert_eq!(removed, [Outcome::Pinned, Outcome::Done]);
    let refused = host.has_room_for(8 << 20);
    assert!(matches!(refused, Err(StoreError::Full { .. })));
    host.daemon.pin(&both[..1], false).await.unwrap();
    let removed = host.daemon.remove(&both).await.unwrap();
    assert_eq!(removed, [Outcome::Done, Outcome::Absent]);
    host.has_room_for(8 << 20).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_layer_is_named_and_its_readers_are_told() {
    let host = Host::start().await;
    let (damaged, intact) = (host.hold(3 << 20), host.hold(2 << 20));
    let digest = damaged.content().digest().unwrap();
    let url = SOURCE.parse().unwrap();
    let open = host.node.local(&digest, &url).await.unwrap();
    let mut reader = open.read(0..open.length());
    reader.next().await.unwrap().unwrap();
    host.daemon
        .pin(std::slice::from_ref(damaged.content()), true)
        .await
        .unwrap();

    let piece = damaged.geometry().piece(2).unwrap();
    let mut bytes = std::fs::read(damaged.data_path()).unwrap();
    bytes[damaged.geometry().piece_offset(piece) as usize + 5] ^= 1;
    std::fs::write(damaged.data_path(), bytes).unwrap();

    let mut audits = Vec::new();
    let both = [damaged.content().clone(), intact.content().clone()];
    let verified = host
        .daemon
        .verify(&both, |audit| audits.push(audit.unwrap()));
    verified.await.unwrap();
    assert_eq!(audits[0].damaged.to_string(), "2");
    assert!(audits[0].fault.is_some() && audits[1].is_intact());

    let rest = async {
        while let Some(part) = reader.next().await {
            part?;
        }
        Ok::<_, flotilla_client::ReadError>(())
    };
    let rest = tokio::time::timeout(DEADLINE, rest).await.unwrap();
    assert!(rest.is_err(), "the reader was given damaged bytes");
    assert!(host.node.local(&digest, &url).await.is_none());
    let left = host.daemon.layers().await.unwrap().layers;
    assert_eq!(left.len(), 1);
    assert_eq!(&left[0].content, intact.content());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_goes_with_its_host_and_so_do_those_who_wait_there() {
    let host = Host::start().await;
    let layer = host.hold(1 << 20);
    let _fetched = host.fetch(&layer, "let me in").await.unwrap();
    host.stop.cancel();
    tokio::time::timeout(DEADLINE, host.node.engine().stopped())
        .await
        .unwrap();
    assert!(!host.socket().exists());
    let again = DaemonClient::connect(&host.socket()).await;
    assert!(matches!(again, Err(ControlError::NotRunning(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_too_large_or_nonsense_are_refused() {
    let host = Host::start().await;
    let http = reqwest::Client::builder()
        .unix_socket(host.socket())
        .build()
        .unwrap();
    let content = ContentId::blob(&DigestHasher::sha256_of(b"x"));
    let bodies = [
        (
            "layers/remove",
            serde_json::json!({ "contents": vec![&content; 1001] }),
            413,
        ),
        (
            "layers/verify",
            serde_json::json!({ "contents": vec![&content; 1001] }),
            413,
        ),
        (
            "layers/remove",
            serde_json::json!({ "contents": ["../../etc"] }),
            422,
        ),
        ("fetch", serde_json::json!({ "url": "no URL" }), 422),
    ];
    for (what, body, expected) in bodies {
        let url = format!("http://flotilla/v1/{what}");
        let answer = http.post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{what}");
    }
    // Refused before it is read whole: the answer may be lost with the connection.
    let endless = serde_json::json!({ "contents": vec![&content; 10_000] });
    let url = "http://flotilla/v1/layers/remove";
    if let Ok(answer) = http.post(url).json(&endless).send().await {
        assert_eq!(answer.status().as_u16(), 413);
    }
    assert!(host.daemon.layers().await.is_ok());
}
