//! One trace of a pull, from the engine's request over proxy and supernode to the pieces.

#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_wrap,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod setup;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use flotilla_torrents::{DigestAlgorithm, DigestHasher};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use rustix::process::Signal;
use setup::fake_source::{FakeSource, content, served};
use setup::{DEADLINE, Daemon, Place, until};

const LENGTH: usize = 5_000_000;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const SECRET: &str = "c2VjcmV0OnNlY3JldA==";

/// A span and the service that it is of.
type Received = Arc<Mutex<Vec<(String, Span)>>>;

/// Takes what exporters post.
fn collector() -> (String, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let received = Received::default();
    let all = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, all) = (stream.unwrap(), Arc::clone(&all));
            std::thread::spawn(move || take(stream, &all));
        }
    });
    (url, received)
}

fn take(mut stream: TcpStream, all: &Received) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut length, mut head) = (0, String::new());
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        assert!(head.starts_with("POST /v1/traces "), "{head}");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let batch = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        for of_service in batch.resource_spans {
            let resource = of_service.resource.unwrap();
            let service = resource.attributes.iter().find(|a| a.key == "service.name");
            let service = format!("{:?}", service.unwrap().value);
            let spans = of_service.scope_spans.into_iter().flat_map(|s| s.spans);
            let mut all = all.lock().unwrap();
            all.extend(spans.map(|span| (service.clone(), span)));
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
    }
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    let found = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == key);
    found.and_then(|found| found.value.clone()?.value)
}

fn number(span: &Span, key: &str) -> i64 {
    match attribute(span, key) {
        Some(Value::IntValue(number)) => number,
        other => panic!("{key} is {other:?}: {span:?}"),
    }
}

struct Cluster {
    place: Place,
    supernode: Daemon,
    proxy: Daemon,
    registry: FakeSource,
    digest: String,
    bytes: Vec<u8>,
}

fn cluster(collector: &str) -> Cluster {
    let place = Place::new();
    let traces = ["--otlp-endpoint", collector];
    let supernode = place.daemon("supernode", Path::new("s"), &traces);
    let more = [&traces[..], &["--supernode", supernode.url()]].concat();
    let proxy = place.daemon("proxy", Path::new("p"), &more);
    let bytes = content(LENGTH, 1);
    let mut hasher = DigestHasher::new(DigestAlgorithm::Sha256);
    hasher.update(&bytes);
    let blob = bytes.clone();
    let registry = FakeSource::start(move |asked| served(asked, &blob, "\"1\""));
    Cluster {
        place,
        supernode,
        proxy,
        registry,
        digest: hasher.finish().to_string(),
        bytes,
    }
}

impl Cluster {
    /// As an engine pulls.
    fn pull(&self, headers: &str) {
        let address = self.proxy.url().trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let url = self
            .registry
            .url(&format!("v2/team/app/blobs/{}", self.digest));
        let request = format!(
            "GET {url} HTTP/1.1\r\nhost: registry\r\nauthorization: Basic {SECRET}\r\n{headers}connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        let head = reply.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
        assert!(
            reply.starts_with(b"HTTP/1.1 200"),
            "{:?}",
            &reply[..head.min(200)]
        );
        assert!(reply[head + 4..] == self.bytes, "other bytes");
    }
}

fn wait_for(
    received: &Received,
    is_there: impl Fn(&[(String, Span)]) -> bool,
) -> Vec<(String, Span)> {
    let spans = || received.lock().unwrap().clone();
    until(
        || format!("other spans than {:#?}", spans()),
        || Some(spans()).filter(|spans| is_there(spans)),
    )
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[test]
fn a_pull_is_one_trace_over_both_processes_down_to_its_pieces() {
    let (url, received) = collector();
    let cluster = cluster(&url);
    cluster.pull(&format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n"));
    let pieces_bytes = |spans: &[(String, Span)]| -> i64 {
        let pieces = spans.iter().filter(|(_, span)| span.name == "piece");
        let verified = pieces.filter(|(_, span)| {
            attribute(span, "flotilla.piece.verified") == Some(Value::BoolValue(true))
        });
        verified
            .map(|(_, span)| number(span, "flotilla.piece.bytes"))
            .sum()
    };
    let spans = wait_for(&received, |spans| {
        let has = |name: &str| spans.iter().any(|(_, span)| span.name == name);
        has("ingest")
            && has("GET /v2/{name}/blobs/{digest}")
            && pieces_bytes(spans) == LENGTH as i64
    });
    assert!(
        spans.iter().all(|(_, span)| hex(&span.trace_id) == TRACE),
        "{spans:#?}"
    );
    // Kinds of the OTLP protocol: 2 server, 3 client.
    let one = |service: &str, kind: i32, name: &str| -> &Span {
        let mut found = spans
            .iter()
            .filter(|(of, span)| of.contains(service) && span.kind == kind && span.name == name);
        let span = &found
            .next()
            .unwrap_or_else(|| panic!("no {name}: {spans:#?}"))
            .1;
        assert!(found.next().is_none(), "two of {name}");
        span
    };
    let engine = one("flotilla-proxy", 2, "GET /v2/{name}/blobs/{digest}");
    assert_eq!(hex(&engine.parent_span_id), PARENT);
    let swarm = Some(Value::StringValue("swarm".to_owned()));
    assert_eq!(attribute(engine, "flotilla.answered_by"), swarm);
    assert_eq!(number(engine, "http.response.body.size"), LENGTH as i64);
    let open = one("flotilla-proxy", 3, "POST /v1/swarms");
    assert_eq!(open.parent_span_id, engine.span_id);
    let opened = one("flotilla-supernode", 2, "POST /v1/swarms");
    assert_eq!(opened.parent_span_id, open.span_id);
    let source = one("flotilla-supernode", 3, "GET /v2/{name}/blobs/{digest}");
    assert_eq!(source.parent_span_id, opened.span_id);
    assert_eq!(
        one("flotilla-supernode", 1, "ingest").parent_span_id,
        opened.span_id
    );
    let pieces = spans.iter().filter(|(_, span)| span.name == "piece");
    for (_, piece) in pieces {
        assert_eq!(piece.parent_span_id, engine.span_id);
        assert!(piece.end_time_unix_nano <= engine.end_time_unix_nano);
    }
    assert!(!format!("{spans:?}").contains(SECRET));
}

#[test]
fn a_collector_that_is_away_changes_no_pull_and_no_end() {
    // Nothing listens there.
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let cluster = cluster(&format!("http://{gone}"));
    cluster.pull("");
    cluster.pull("");
    cluster.proxy.stop(Signal::TERM);
    cluster.supernode.stop(Signal::TERM);
}

#[test]
fn a_malformed_traceparent_is_as_if_it_were_not_there() {
    let (url, received) = collector();
    let cluster = cluster(&url);
    let zero = "0".repeat(32);
    cluster.pull(&format!("traceparent: 00-{zero}-{PARENT}-01\r\n"));
    let spans = wait_for(&received, |spans| {
        spans.iter().any(|(_, span)| span.kind == 2)
    });
    assert!(spans.iter().all(|(_, span)| hex(&span.trace_id) != zero));
}
