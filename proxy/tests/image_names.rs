//! What layers are called: by the manifests that pass before them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod fakes;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use fakes::origin::Origin;
use fakes::raw_client::{RawResponse, exchange, get};
use fakes::swarm::{FakeLayer, FakeSwarm, Opening};
use fakes::{RunningProxy, proxy};
use flotilla_proxy::ProxyConfig;
use flotilla_torrents::DigestHasher;
use tokio::io::AsyncWriteExt as _;

const LAYER: &[u8] = b"a layer";

/// Header lines and body of an answer.
#[derive(Clone)]
struct Answer {
    fields: String,
    body: Vec<u8>,
    /// Body bytes that are sent before the registry breaks off.
    sent: usize,
}

impl Answer {
    fn of(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let length = body.len();
        Self {
            fields: format!("Content-Length: {length}\r\n"),
            body,
            sent: length,
        }
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        write!(self.fields, "{name}: {value}\r\n").unwrap();
        self
    }
}

/// A registry of manifests, a proxy before it, and what the swarm is asked for.
struct Scene {
    registry: Origin,
    proxy: RunningProxy,
    swarm: FakeSwarm,
}

impl Scene {
    async fn new(answers: impl IntoIterator<Item = (String, Answer)>) -> Self {
        let answers: Arc<HashMap<String, Answer>> = Arc::new(answers.into_iter().collect());
        let registry = Origin::start(move |head, mut stream| {
            let answers = Arc::clone(&answers);
            async move {
                let mut words = head.split(' ');
                let method = words.next().unwrap();
                let path = words.next().unwrap().strip_prefix("/v2/").unwrap();
                let answer = &answers[path];
                let head = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\n{}\r\n",
                    answer.fields
                );
                stream.write_all(head.as_bytes()).await.unwrap();
                if method == "GET" {
                    stream.write_all(&answer.body[..answer.sent]).await.unwrap();
                }
            }
        })
        .await;
        let swarm = FakeSwarm::opening(Opening::Layer(FakeLayer::whole(LAYER)));
        let proxy = proxy(ProxyConfig::default(), swarm.clone()).await;
        Self {
            registry,
            proxy,
            swarm,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v2/{path}", self.registry.addr)
    }

    async fn get(&self, path: &str) -> RawResponse {
        get(self.proxy.addr, &self.url(path), "").await
    }

    async fn head(&self, path: &str) -> RawResponse {
        let host = self.registry.addr;
        let url = self.url(path);
        let request = format!("HEAD {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        exchange(self.proxy.addr, request).await
    }

    /// What the layer is called when the engine asks for it in a repository.
    async fn names(&self, repository: &str) -> Vec<String> {
        let response = self.get(&format!("{repository}/blobs/{}", layer())).await;
        assert_eq!(response.body, LAYER);
        let images = self.swarm.opened().pop().unwrap().images;
        let host = format!("{}/", self.registry.addr);
        let without_host = images
            .iter()
            .map(|image| image.strip_prefix(&host).unwrap());
        without_host.map(str::to_owned).collect()
    }
}

/// RFC 9112 section 7.1.
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n").unwrap();
        let length = std::str::from_utf8(&bytes[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 4 + length..];
    }
}

fn digest_of(bytes: &[u8]) -> String {
    DigestHasher::sha256_of(bytes).to_string()
}

fn layer() -> String {
    digest_of(LAYER)
}

fn manifest() -> String {
    let config = digest_of(b"a configuration");
    format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{config}"}},"layers":[{{"digest":"{}"}}]}}"#,
        layer()
    )
}

fn index() -> String {
    let manifest = digest_of(manifest().as_bytes());
    format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{manifest}","platform":{{}}}}]}}"#)
}

/// The index and the manifest of `team/app:1.0`, by tag and by digest, as registries give them.
fn team_app() -> Vec<(String, Answer)> {
    let (index, manifest) = (index(), manifest());
    let [of_index, of_manifest] = [&index, &manifest].map(|text| digest_of(text.as_bytes()));
    let named = |text: &str, digest: &str| Answer::of(text).field("Docker-Content-Digest", digest);
    vec![
        (
            "team/app/manifests/1.0".to_owned(),
            named(&index, &of_index),
        ),
        (
            format!("team/app/manifests/{of_index}"),
            named(&index, &of_index),
        ),
        (
            format!("team/app/manifests/{of_manifest}"),
            named(&manifest, &of_manifest),
        ),
    ]
}

#[tokio::test]
async fn a_layer_is_called_by_the_tag_that_its_index_was_asked_for_by() {
    let scene = Scene::new(team_app()).await;
    let of_index = digest_of(index().as_bytes());
    let of_manifest = digest_of(manifest().as_bytes());
    // By digest only it has no name.
    for digest in [&of_index, &of_manifest] {
        let response = scene.get(&format!("team/app/manifests/{digest}")).await;
        assert_eq!(response.status(), 200);
    }
    assert!(scene.names("team/app").await.is_empty());

    assert_eq!(scene.get("team/app/manifests/1.0").await.text(), index());
    let response = scene
        .get(&format!("team/app/manifests/{of_manifest}"))
        .await;
    assert_eq!(response.text(), manifest());
    assert_eq!(scene.names("team/app").await, ["team/app:1.0"]);
    // In another repository it belongs to no known image.
    assert!(scene.names("team/other").await.is_empty());
}

#[tokio::test]
async fn engines_that_ask_for_the_tag_s_digest_first_are_understood() {
    let scene = Scene::new(team_app()).await;
    let response = scene.head("team/app/manifests/1.0").await;
    assert_eq!((response.status(), response.body.len()), (200, 0));
    for text in [index(), manifest()] {
        let digest = digest_of(text.as_bytes());
        let response = scene.get(&format!("team/app/manifests/{digest}")).await;
        assert_eq!(response.text(), text);
    }
    assert_eq!(scene.names("team/app").await, ["team/app:1.0"]);
}

#[tokio::test]
async fn a_registry_that_names_no_digest_and_no_length_is_understood() {
    let chunked = |text: &str| Answer {
        fields: "Transfer-Encoding: chunked\r\n".to_owned(),
        ..Answer::of(format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len()))
    };
    let of_manifest = digest_of(manifest().as_bytes());
    let scene = Scene::new([
        ("team/app/manifests/1.0".to_owned(), chunked(&index())),
        (
            format!("team/app/manifests/{of_manifest}"),
            chunked(&manifest()),
        ),
        ("team/app/manifests/2.0".to_owned(), chunked(&manifest())),
    ])
    .await;
    scene.get("team/app/manifests/1.0").await;
    scene
        .get(&format!("team/app/manifests/{of_manifest}"))
        .await;
    scene.get("team/app/manifests/2.0").await;
    assert_eq!(
        scene.names("team/app").await,
        ["team/app:2.0", "team/app:1.0"]
    );
}

#[tokio::test]
async fn what_is_no_manifest_passes_as_it_is_and_names_nothing() {
    let large = format!("{}{}", manifest(), " ".repeat(4 * 1024 * 1024));
    let unannounced = Answer {
        fields: String::new(),
        ..Answer::of(large.as_str())
    };
    let broken = Answer {
        sent: manifest().len() - 1,
        ..Answer::of(manifest())
    };
    let cases = [
        ("large", Answer::of(large.as_str())),
        ("unannounced", unannounced),
        ("text", Answer::of(format!("{}, or so", manifest()))),
        ("html", Answer::of("<html>")),
        (
            "list",
            Answer::of(r#"{"layers":["sha256:"],"manifests":{"digest":7}}"#),
        ),
        ("empty", Answer::of("")),
        (
            "coded",
            Answer::of(manifest()).field("Content-Encoding", "gzip"),
        ),
        ("broken", broken),
    ];
    let answers = cases.iter().cloned();
    let answers = answers.map(|(tag, answer)| (format!("team/app/manifests/{tag}"), answer));
    let scene = Scene::new(answers).await;
    for (tag, answer) in &cases {
        let response = scene.get(&format!("team/app/manifests/{tag}")).await;
        let body = match response.field("transfer-encoding") {
            Some(_) => unchunked(&response.body),
            None => response.body.clone(),
        };
        assert_eq!(body.len(), answer.sent, "{tag}");
        assert!(body == answer.body[..answer.sent], "{tag}");
        assert!(scene.names("team/app").await.is_empty(), "{tag}");
    }
}
