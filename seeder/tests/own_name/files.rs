//! Files at URLs that are in the swarm before anybody gets them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use flotilla_client::{ContentRequest, Node};
use flotilla_cluster::messages::preheats::PreheatEvent;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::fakes::{Cluster, DEADLINE, Registry};
use crate::jobs::wait_for;

/// What would be a secret of the caller.
const SIGNATURE: &str = "harbour-light";

/// A web server of one file, which names no version of what is below `/unnamed`.
#[derive(Clone)]
struct Files {
    addr: SocketAddr,
    body: Bytes,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    requests: usize,
    /// Requests for more than a byte.
    bodies: usize,
    logins: usize,
}

impl Files {
    async fn start(length: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let words = (0..length).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes());
        let files = Self {
            addr: listener.local_addr().unwrap(),
            body: words.take(length as usize).collect(),
            log: Arc::default(),
        };
        let answer = async |State(files): State<Self>, request: Request| files.answer(&request);
        let router = Router::new().fallback(answer).with_state(files.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        files
    }

    fn answer(&self, request: &Request) -> Response {
        let mut log = self.log.lock().unwrap();
        log.requests += 1;
        log.logins += usize::from(request.headers().contains_key(header::AUTHORIZATION));
        let etag = [(header::ETAG, "\"1\"")];
        let range = request.headers().get(header::RANGE);
        if range.is_some_and(|range| range == "bytes=0-0") {
            let headers = [(
                header::CONTENT_RANGE,
                format!("bytes 0-0/{}", self.body.len()),
            )];
            return (
                StatusCode::PARTIAL_CONTENT,
                etag,
                headers,
                self.body.slice(..1),
            )
                .into_response();
        }
        log.bodies += 1;
        if request.uri().path().starts_with("/unnamed") {
            return Body::from(self.body.clone()).into_response();
        }
        (etag, self.body.clone()).into_response()
    }

    fn origin(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.origin())
    }
}

/// The bytes as a get of the URL has them.
async fn got(node: &Node, url: &str, filter_query: &[&str]) -> Vec<u8> {
    let request = ContentRequest {
        url: url.parse().unwrap(),
        headers: Vec::new(),
        digest: None,
        filter_query: filter_query.iter().map(|name| (*name).to_owned()).collect(),
    };
    let layer = node.open(request).await.unwrap();
    let parts = layer.read(0..layer.length()).map(Result::unwrap);
    let parts = tokio::time::timeout(DEADLINE, parts.collect::<Vec<_>>());
    parts.await.unwrap().concat()
}

async fn submit(cluster: &Cluster, request: &Value) -> (u16, Value) {
    cluster.ask(Method::POST, "v1/preheat-jobs", request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_on_supernode_and_nodes_and_its_source_sends_it_once() {
    for length in [9000, 300_000, 3 << 20] {
        let files = Files::start(length).await;
        let mut cluster = Cluster::start(None, &[files.origin()]).await;
        let chosen = cluster.node_called("web-1").await;
        chosen.accept_prefetch();
        let bystander = cluster.node_called("db-1").await;
        let url = files.url("model.bin");
        let request = json!({"images": [url], "nodes": "web-*"});
        let (status, job) = submit(&cluster, &request).await;
        assert_eq!(status, 200, "{job}");
        let job = wait_for(&cluster, job["id"].as_u64().unwrap(), "success").await;
        assert_eq!(
            (&job["layers"], &job["bytes"]),
            (&json!(1), &json!(length)),
            "{job}"
        );
        assert_eq!(files.log.lock().unwrap().bodies, 1, "{length}");
        let held = |node: &Node| node.engine().store().bytes();
        assert!(held(&chosen) >= length.into() && held(&bystander) == 0);
        for node in [&chosen, &bystander] {
            assert!(got(node, &url, &[]).await == files.body, "{length}");
        }
        assert_eq!(files.log.lock().unwrap().bodies, 1, "{length}");
        // What is there is not fetched for another job either.
        let (_, again) = submit(&cluster, &request).await;
        wait_for(&cluster, again["id"].as_u64().unwrap(), "success").await;
        assert_eq!(files.log.lock().unwrap().bodies, 1, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_name_no_file_and_are_shown_nowhere() {
    let files = Files::start(3 << 20).await;
    let mut cluster = Cluster::start(None, &[files.origin()]).await;
    let request = json!({"images": [files.url(&format!("a?v=1&sig={SIGNATURE}"))],
        "filter_query": ["sig"], "nodes": "no-such-node"});
    let (_, job) = submit(&cluster, &request).await;
    let id = job["id"].as_u64().unwrap();
    wait_for(&cluster, id, "failure").await;
    for path in [
        "v1/preheat-jobs".to_owned(),
        format!("v1/preheat-jobs/{id}"),
        "api/v1/jobs".to_owned(),
        format!("api/v1/jobs/{id}"),
        format!("oapi/v1/jobs/{id}"),
    ] {
        let (status, shown) = cluster.ask(Method::GET, &path, &Value::Null).await;
        let shown = shown.to_string();
        assert!(
            status == 200 && !shown.contains(SIGNATURE),
            "{path}: {shown}"
        );
        let names_it = shown.contains(&files.url("a")) || path.starts_with("oapi");
        assert!(names_it, "{path}: {shown}");
    }
    let kept = cluster.job_files().concat();
    assert!(!kept.contains(SIGNATURE), "{kept}");
    let node = cluster.node().await;
    let other = files.url("a?v=1&sig=another");
    assert!(got(&node, &other, &["sig"]).await == files.body);
    assert_eq!(files.log.lock().unwrap().bodies, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_from_listed_servers_by_their_scheme_and_without_a_login() {
    let files = Files::start(3 << 20).await;
    let url = files.url("a");
    // Listed with HTTPS only.
    let others = [files.addr.to_string(), "http://169.254.169.254".to_owned()];
    let cluster = Cluster::start(None, &others).await;
    let (status, refused) = submit(&cluster, &json!({"images": [url]})).await;
    let said = refused["error"].as_str().unwrap();
    assert_eq!(status, 403, "{said}");
    assert!(
        said.contains(&files.origin()) && said.contains("--preheat-registry"),
        "{said}"
    );
    assert!(said.contains("not listed"), "{said}");
    let metadata = json!({"images": ["http://169.254.169.254/latest/meta-data"]});
    let events = cluster.preheat(&metadata).await;
    let PreheatEvent::Failed { reason, .. } = &events[0] else {
        panic!("{events:?}");
    };
    assert!(reason.contains("link-local"), "{reason}");
    for wrong in ["ftp://h.test/a", "http://me:secret@h.test/a", "http:///"] {
        let (status, said) = submit(&cluster, &json!({"images": [wrong]})).await;
        assert!(
            status == 400 && !said.to_string().contains("secret"),
            "{said}"
        );
    }
    assert_eq!(files.log.lock().unwrap().requests, 0);

    // A login that is for the registry there is not shown to whatever else is there.
    let registry = Registry {
        addr: files.addr,
        content: Arc::default(),
    };
    let cluster = Cluster::start(Some(&registry), &[files.origin()]).await;
    let events = cluster.preheat(&json!({"images": [url]})).await;
    let bytes = 3 << 20;
    assert_eq!(events[0], PreheatEvent::File { url, bytes });
    let log = files.log.lock().unwrap();
    assert_eq!((log.bodies, log.logins), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_version_has_no_name_is_told_not_to_be_shared() {
    let files = Files::start(3 << 20).await;
    let cluster = Cluster::start(None, &[files.origin()]).await;
    let (_, job) = submit(&cluster, &json!({"images": [files.url("unnamed")]})).await;
    let job = wait_for(&cluster, job["id"].as_u64().unwrap(), "failure").await;
    let cause = job["cause"].as_str().unwrap();
    assert!(cause.contains("neither ETag nor Last-Modified"), "{cause}");
}
