//! Attacks: for another caller's layer, or for two requests where one was sent.

use axum::body::Body;
use http::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fakes::origin::Origin;
use crate::fakes::raw_client::{exchange, get_from_mirror};
use crate::fakes::{DEADLINE, patterned, plain_proxy};
use crate::stack::{LOGIN, RealRegistry, Scripted, Stack, path_of, push_blob};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
/// The second request of those that look like one.
const INNER: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// What the proxy says until it closes. The client's own side stays open: a client that closes it has
/// left.
async fn send(proxy: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The proxy may reset a connection of which it has not read all.
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .expect("the proxy closes");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_message_of_two_lengths_never_becomes_two_requests() {
    let length = INNER.len();
    assert_eq!(length, 35);
    let mut passed = 0;
    let chunked = format!("{length:x}\r\n{INNER}\r\n0\r\n\r\n");
    for (fields, body) in [
        (
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            chunked.as_str(),
        ),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4", &chunked),
        ("Transfer-Encoding: xchunked\r\nContent-Length: 4", &chunked),
        (
            "Transfer-Encoding: chunked, identity\r\nContent-Length: 4",
            &chunked,
        ),
        ("Transfer-Encoding : chunked\r\nContent-Length: 4", &chunked),
        (
            "X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 0",
            INNER,
        ),
        ("Content-Length: 0\r\nContent-Length: 35", INNER),
        ("Content-Length: 0, 35", INNER),
        ("Content-Length: +35", INNER),
        ("Content-Length: 0x23", INNER),
        (
            "Connection: close, Content-Length\r\nContent-Length: 35",
            INNER,
        ),
        (
            "Connection: close, Transfer-Encoding\r\nTransfer-Encoding: chunked",
            &chunked,
        ),
    ] {
        let origin = Origin::saying(OK).await;
        let proxy = plain_proxy().await;
        let url = format!("http://{}/v2/a/blobs/uploads/", origin.addr);
        let close = if fields.starts_with("Connection") {
            ""
        } else {
            "Connection: close\r\n"
        };
        send(
            proxy.addr,
            &format!("POST {url} HTTP/1.1\r\nHost: a\r\n{close}{fields}\r\n\r\n{body}"),
        )
        .await;
        passed += origin.seen().len();
        for head in origin.seen() {
            assert!(!head.starts_with("GET /smuggled"), "{fields}: {head}");
            let framing = head.lines().filter(|line| {
                let line = line.to_ascii_lowercase();
                line.starts_with("content-length:") || line.starts_with("transfer-encoding:")
            });
            assert_eq!(framing.count(), 1, "{fields}: {head}");
        }
    }
    // Chunks count more than a length (RFC 9112 section 6.3); the rest is refused.
    assert_eq!(passed, 4);
}

#[tokio::test]
async fn an_answer_of_two_lengths_never_becomes_two_answers() {
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let length = second.len();
    for answer in [
        format!(
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{second}\r\n0\r\n\r\n"
        ),
        format!(
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n{length:x}\r\n{second}\r\n0\r\n\r\n"
        ),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{second}"),
        format!("X: a\rContent-Length: 0\r\nContent-Length: {length}\r\n\r\n{second}"),
        format!("Content-Length: 0\r\n\r\n{second}"),
    ] {
        let origin =
            Origin::saying(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{answer}")).await;
        let good = Origin::saying(OK).await;
        let proxy = plain_proxy().await;
        // A client that keeps its connection takes what follows for the next answer.
        let both = format!(
            "GET http://{}/a HTTP/1.1\r\nHost: a\r\n\r\nGET http://{}/b HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
            origin.addr, good.addr
        );
        let heard = send(proxy.addr, &both).await;
        let (head, rest) = heard.split_once("\r\n\r\n").unwrap();
        let fields = head.to_ascii_lowercase();
        let framing = fields.matches("content-length:").count()
            + fields.matches("transfer-encoding:").count();
        assert_eq!(framing, 1, "{answer}: {heard}");
        if fields.contains("content-length: 0") {
            assert!(rest.is_empty() || rest.ends_with("ok"), "{answer}: {heard}");
            assert!(!rest.contains("evil"), "{answer}: {heard}");
        }
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_never_whole_for_the_client() {
    for answer in [
        "Content-Length: 10\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let origin = Origin::saying(format!("HTTP/1.1 200 OK\r\n{answer}")).await;
        let proxy = plain_proxy().await;
        let url = format!("http://{}/v2/a/manifests/1", origin.addr);
        let heard = exchange(
            proxy.addr,
            format!("GET {url} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        )
        .await;
        match heard.field("content-length") {
            Some(length) => assert!(heard.body.len() < length.parse().unwrap()),
            None => assert!(!heard.body.ends_with(b"0\r\n\r\n"), "{:?}", heard.body),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_the_registry_s_yes_opens_a_layer_that_is_here() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    let blob = patterned(1_500_000);
    let digest = push_blob(&stack, "team/app", &blob).await;
    let path = path_of(&blob);
    assert!(stack.ask("GET", &path, LOGIN, b"").await.body == blob);
    let stranger = "Authorization: Basic c3RyYW5nZXI6eA==\r\n";
    let token = LOGIN.split(' ').nth(2).unwrap();
    for fields in [
        String::new(),
        stranger.to_owned(),
        format!("{stranger}{LOGIN}"),
        format!("{LOGIN}{stranger}"),
        format!("Authorization: \r\n{LOGIN}"),
        format!("Authorization: Bearer {token}"),
        format!("Proxy-{LOGIN}"),
        format!("X-{LOGIN}"),
        format!("Cookie: authorization=Basic%20{token}"),
        format!("Connection: Authorization\r\n{stranger}"),
        "Authorization: Bearer flotilla.login\r\n".to_owned(),
    ] {
        let fields = format!("{}\r\n", fields.trim_end());
        let fields = if fields.trim().is_empty() {
            ""
        } else {
            &fields
        };
        let direct = stack.ask_direct("GET", &path, fields, b"").await;
        let answer = stack.ask("GET", &path, fields, b"").await;
        assert_eq!(answer.status(), direct.status(), "{fields}");
        assert!(
            answer.status() == 401 || fields.starts_with(LOGIN),
            "{fields}"
        );
    }
    for path in [
        format!("/v2/team/app/blobs/sha256%3A{}", &digest[7..]),
        format!("/v2/team/app/blobs/{}", digest.to_uppercase()),
        format!("/v2/./team/app/blobs/{digest}"),
        format!("/v2/other/../team/app/blobs/{digest}"),
        format!("/v2/team/%61pp/blobs/{digest}"),
        format!("//v2/team/app/blobs/{digest}"),
        format!("/v2/team/app/blobs/{digest}?ns=x"),
        format!("/v2/team/app/blobs/{digest}#x"),
    ] {
        let answer = stack.ask("GET", &path, "", b"").await;
        assert!(answer.status() >= 300, "{path}: {}", answer.status());
        assert!(answer.body.len() < 4096, "{path}");
    }
    let url = format!("http://operator:harbour-light@{}{path}", stack.registry);
    let request = stack.request("GET", &url, "", b"");
    assert_eq!(exchange(stack.proxy.addr, request).await.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lets_all_callers_in_opens_only_its_own() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    let blob = patterned(1_500_000);
    push_blob(&stack, "team/app", &blob).await;
    let path = path_of(&blob);
    assert!(stack.ask("GET", &path, LOGIN, b"").await.body == blob);
    let length = blob.len();
    let mine = Scripted::start(move |parts| {
        let answer = Response::builder();
        if parts.headers.contains_key("range") {
            let range = format!("bytes 0-0/{length}");
            let answer = answer.status(206).header("content-range", range);
            return answer.body(Body::from("x")).unwrap();
        }
        answer.body(Body::from("mine")).unwrap()
    })
    .await;
    let url = format!("http://{}{path}", mine.addr);
    // The Host is that of the registry which has the layer.
    let request = stack.request("GET", &url, "", b"");
    assert_eq!(exchange(stack.proxy.addr, request).await.text(), "mine");
    let named = format!("{path}?ns={}", mine.addr);
    let answer = get_from_mirror(stack.proxy.addr, &named, "").await;
    assert_eq!(answer.status(), 421);
}
