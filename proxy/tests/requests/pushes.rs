//! Pushes through a proxy that keeps them: what the registry has taken seeds, and nothing else is
//! left; and a push succeeds as without the proxy, whatever becomes of the copy.

use std::time::Duration;

use axum::body::Body;
use flotilla_proxy::ProxyConfig;
use flotilla_torrents::DigestHasher;
use futures_util::future::join_all;
use http::{Response, Uri};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::fakes::raw_client::{RawResponse, exchange};
use crate::fakes::{self, patterned};
use crate::stack::{CountedWay, LOGIN, QUOTA, RealRegistry, Scripted, Stack, blob_answer};

async fn keeping(registry: std::net::SocketAddr, quota: u64) -> Stack {
    let config = ProxyConfig {
        seed_pushed: true,
        ..ProxyConfig::default()
    };
    Stack::with(registry, quota, config).await
}

/// Waits for what happens behind the answers.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(fakes::DEADLINE, waiting)
        .await
        .unwrap_or_else(|_| panic!("not within the deadline: {what}"));
}

fn spooled(stack: &Stack) -> usize {
    std::fs::read_dir(stack.data_dir.join("spool"))
        .unwrap()
        .count()
}

fn layers(stack: &Stack) -> usize {
    std::fs::read_dir(stack.data_dir.join("layers"))
        .unwrap()
        .count()
}

fn digest_of(blob: &[u8]) -> String {
    DigestHasher::sha256_of(blob).to_string()
}

/// Where the answer says that the upload continues.
fn location(answer: &RawResponse) -> String {
    let location: Uri = answer.field("location").unwrap().parse().unwrap();
    location.path_and_query().unwrap().to_string()
}

async fn start(stack: &Stack, repository: &str) -> String {
    let path = format!("/v2/{repository}/blobs/uploads/");
    let answer = stack.ask("POST", &path, LOGIN, b"").await;
    assert_eq!(answer.status(), 202, "{}", answer.text());
    location(&answer)
}

async fn send_part(stack: &Stack, at: &str, fields: &str, bytes: &[u8]) -> RawResponse {
    let fields = format!("{LOGIN}Content-Type: application/octet-stream\r\n{fields}");
    stack.ask("PATCH", at, &fields, bytes).await
}

/// As Docker does: the length is not known.
async fn stream_part(stack: &Stack, at: &str, bytes: &[u8]) -> RawResponse {
    let registry = stack.registry;
    let mut request = format!(
        "PATCH http://{registry}{at} HTTP/1.1\r\nHost: {registry}\r\nConnection: close\r\n{LOGIN}Transfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for part in bytes.chunks(100_000) {
        request.extend(format!("{:x}\r\n", part.len()).bytes());
        request.extend(part);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    exchange(stack.proxy.addr, request).await
}

async fn finish(stack: &Stack, at: &str, digest: &str, rest: &[u8]) -> RawResponse {
    // Clients sort the parameters anew.
    let (path, state) = at.split_once('?').unwrap();
    let digest = digest.replace(':', "%3A");
    let path = format!("{path}?digest={digest}&{state}");
    stack.ask("PUT", &path, LOGIN, rest).await
}

/// In parts as given, the last one with the request that finishes.
async fn push(stack: &Stack, repository: &str, parts: &[&[u8]], last: &[u8]) -> String {
    let mut at = start(stack, repository).await;
    let mut whole = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let answer = if number % 2 == 0 {
            stream_part(stack, &at, part).await
        } else {
            let range = format!("{}-{}", whole.len(), whole.len() + part.len() - 1);
            send_part(stack, &at, &format!("Content-Range: {range}\r\n"), part).await
        };
        assert_eq!(answer.status(), 202, "{}", answer.text());
        at = location(&answer);
        whole.extend_from_slice(part);
    }
    whole.extend_from_slice(last);
    let digest = digest_of(&whole);
    let answer = finish(stack, &at, &digest, last).await;
    assert_eq!(answer.status(), 201, "{}", answer.text());
    digest
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_layers_seed_and_are_never_read_from_the_registry() {
    let registry = RealRegistry::start().await;
    let way = CountedWay::to(registry.addr).await;
    let stack = keeping(way.addr, QUOTA).await;
    let blob = patterned(5_000_000);
    let of = |length: usize| &blob[..length];
    // Several clients at once, each in another way, small ones among them.
    let pushes: [(&[&[u8]], &[u8]); 5] = [
        (&[of(4_000_000)], &[]),
        (&[], of(3_000_000)),
        (&[of(1_500_000), of(700_000), of(300_000)], of(9)),
        (&[of(2_000)], &[]),
        (&[], of(500_000)),
    ];
    let pushing = pushes.map(|(parts, last)| push(&stack, "team/app", parts, last));
    let digests = join_all(pushing).await;
    until("all are kept", || stack.proxy.stats.counts().kept == 5).await;
    let before = way.sent();
    for (digest, (parts, last)) in digests.iter().zip(pushes) {
        let whole = [parts.concat().as_slice(), last].concat();
        let path = format!("/v2/team/app/blobs/{digest}");
        let here = stack.ask("GET", &path, LOGIN, b"").await;
        assert!(here.status() == 200 && here.body == whole, "{digest} here");
        let there = stack.ask_elsewhere(&path, LOGIN).await;
        assert!(
            there.status() == 200 && there.body == whole,
            "{digest} there"
        );
        // A caller that the registry refuses is refused here too.
        assert_eq!(stack.ask("GET", &path, "", b"").await.status(), 401);
    }
    let sent = way.sent() - before;
    assert!(sent < 20_000, "the registry sent {sent} bytes");
    assert_eq!(spooled(&stack), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_with_another_digest_is_refused_and_not_kept() {
    let registry = RealRegistry::start().await;
    let stack = keeping(registry.addr, QUOTA).await;
    let blob = patterned(2_000_000);
    let at = location(&stream_part(&stack, &start(&stack, "team/app").await, &blob).await);
    let answer = finish(&stack, &at, &digest_of(b"another"), b"").await;
    assert_eq!(answer.status(), 400, "{}", answer.text());
    until("nothing is left", || spooled(&stack) == 0).await;
    assert_eq!(layers(&stack), 0);
    assert_eq!(stack.proxy.stats.counts().kept, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_takes_other_bytes_makes_no_layer() {
    let blob = patterned(1_200_000);
    let digest = digest_of(&patterned(1_300_000));
    let registry = Scripted::start(move |parts| match parts.method.as_str() {
        "POST" => answer(202, "/v2/a/blobs/uploads/1?s=1"),
        "PUT" => answer(201, ""),
        _ => answer(404, ""),
    })
    .await;
    let stack = keeping(registry.addr, QUOTA).await;
    let at = start(&stack, "a").await;
    assert_eq!(finish(&stack, &at, &digest, &blob).await.status(), 201);
    until("nothing is left", || spooled(&stack) == 0).await;
    // The supernode asks for what was not kept.
    until("it is read back", || registry.whole_gets() > 0).await;
    assert_eq!(layers(&stack), 0);
}

fn answer(status: u16, location: &str) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("location", location)
        .body(Body::empty())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_refused_is_sent_again_and_the_upload_is_kept() {
    let blob = patterned(1_200_000);
    let digest = digest_of(&blob);
    let (given, path) = (blob.clone(), format!("/v2/a/blobs/{digest}"));
    let registry = Scripted::start(move |parts| {
        let state = parts.uri.query().unwrap_or_default();
        match (parts.method.as_str(), state) {
            ("POST", _) => answer(202, "/v2/a/blobs/uploads/1?s=1"),
            ("PATCH", "s=1") => answer(202, "1?s=2"),
            ("PATCH", "s=2") => answer(416, "1?s=2"),
            ("GET", "s=2") => {
                let mut status = answer(204, "1?s=3");
                let range = http::HeaderValue::from_static("0-499999");
                status.headers_mut().insert("range", range);
                status
            }
            ("PATCH", "s=3") => answer(202, "1?s=4"),
            ("PUT", _) => answer(201, ""),
            ("GET", _) if parts.uri.path() == path => blob_answer(parts, &given),
            _ => answer(404, ""),
        }
    })
    .await;
    let stack = keeping(registry.addr, QUOTA).await;
    let at = start(&stack, "a").await;
    let at = location_beside(&at, &send_part(&stack, &at, "", &blob[..500_000]).await);
    let refused = send_part(&stack, &at, "", &blob[700_000..]).await;
    assert_eq!(refused.status(), 416);
    let misplaced = "Content-Range: 700000-1199999\r\n";
    let refused = send_part(&stack, &at, misplaced, &blob[700_000..]).await;
    assert_eq!(refused.status(), 416);
    let at = location_beside(&at, &stack.ask("GET", &at, LOGIN, b"").await);
    let rest = "Content-Range: 500000-1199999\r\n";
    let at = location_beside(&at, &send_part(&stack, &at, rest, &blob[500_000..]).await);
    assert_eq!(finish(&stack, &at, &digest, b"").await.status(), 201);
    until("it is kept", || stack.proxy.stats.counts().kept == 1).await;
    let path = format!("/v2/a/blobs/{digest}");
    let there = stack.ask_elsewhere(&path, LOGIN).await;
    assert!(there.status() == 200 && there.body == blob);
    let seen = registry.seen();
    let mut gets = seen.iter().filter(|parts| parts.method == "GET");
    assert!(
        gets.all(|parts| parts.uri.query().is_some() || parts.headers.contains_key("range")),
        "the blob was read"
    );
}

/// A relative location.
fn location_beside(at: &str, answer: &RawResponse) -> String {
    let (folder, _) = at.rsplit_once('/').unwrap();
    format!("{folder}/{}", answer.field("location").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_leaves_nothing() {
    let registry = RealRegistry::start().await;
    let stack = keeping(registry.addr, QUOTA).await;
    let at = start(&stack, "team/app").await;
    let address = stack.registry;
    let head = format!(
        "PATCH http://{address}{at} HTTP/1.1\r\nHost: {address}\r\n{LOGIN}Content-Length: 3000000\r\n\r\n"
    );
    let mut client = TcpStream::connect(stack.proxy.addr).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&patterned(1_000_000)).await.unwrap();
    until("the part is spooled", || spooled(&stack) == 1).await;
    drop(client);
    until("nothing is left", || spooled(&stack) == 0).await;
    assert_eq!(layers(&stack), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_upload_leaves_nothing() {
    let registry = RealRegistry::start().await;
    let stack = keeping(registry.addr, QUOTA).await;
    let at = start(&stack, "team/app").await;
    let at = location(&send_part(&stack, &at, "", &patterned(1_000_000)).await);
    until("the part is spooled", || spooled(&stack) == 1).await;
    assert_eq!(stack.ask("DELETE", &at, LOGIN, b"").await.status(), 204);
    until("nothing is left", || spooled(&stack) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_finds_no_room_passes_and_is_read_back() {
    let registry = RealRegistry::start().await;
    let stack = keeping(registry.addr, 2_000_000).await;
    let blob = patterned(3_000_000);
    let digest = push(
        &stack,
        "team/app",
        &[&blob[..1_500_000]],
        &blob[1_500_000..],
    )
    .await;
    until("nothing is left", || spooled(&stack) == 0).await;
    let path = format!("/v2/team/app/blobs/{digest}");
    let there = stack.ask_elsewhere(&path, LOGIN).await;
    assert!(there.status() == 200 && there.body == blob);
    assert_eq!(stack.proxy.stats.counts().kept, 0);
    // What does fit is kept.
    push(&stack, "team/app", &[], &blob[..900_000]).await;
    until("it is kept", || stack.proxy.stats.counts().kept == 1).await;
}
