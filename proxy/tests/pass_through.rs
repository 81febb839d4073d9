//! What is not a layer passes through unchanged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod fakes;

use std::sync::Arc;
use std::time::Duration;

use fakes::origin::{Origin, field, read_head};
use fakes::raw_client::{exchange, get};
use fakes::{DEADLINE, plain_proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// The lines of a request head that the proxy has received, without the first.
fn lines(head: &str) -> Vec<&str> {
    head.trim_end().lines().skip(1).collect()
}

#[tokio::test]
async fn separate_accept_lines_stay_separate_and_in_order() {
    let origin = Origin::saying(OK).await;
    let proxy = plain_proxy().await;
    let accepts: Vec<String> = [
        "m.v2",
        "list.v2",
        "oci.m",
        "oci.i",
        "m.v1+prettyjws",
        "json",
    ]
    .iter()
    .map(|media_type| format!("Accept: application/{media_type}"))
    .collect();
    let url = format!("http://{}/v2/a/manifests/latest", origin.addr);
    let response = get(
        proxy.addr,
        &url,
        &format!("{}\r\nX-OdD-cAsE: 1\r\n", accepts.join("\r\n")),
    )
    .await;
    assert_eq!(response.text(), "ok");
    let seen = origin.seen().remove(0);
    let sent: Vec<_> = lines(&seen)
        .into_iter()
        .filter(|line| line.starts_with("Accept"))
        .collect();
    assert_eq!(sent, accepts);
    assert!(seen.contains("\r\nX-OdD-cAsE: 1\r\n"), "{seen}");
}

#[tokio::test]
async fn the_target_is_sent_byte_for_byte_in_origin_form() {
    let origin = Origin::saying(OK).await;
    let proxy = plain_proxy().await;
    for path in [
        "/v2/a%2Fb//manifests/x",
        "/v2//?n=1&last=a%2fb&_state=x%3D%3D",
        "/a/../b/./c?",
        "/v2/?a=b?c&ns=d",
    ] {
        get(proxy.addr, &format!("http://{}{path}", origin.addr), "").await;
        let seen = origin.seen().pop().unwrap();
        assert_eq!(
            seen.lines().next(),
            Some(format!("GET {path} HTTP/1.1").as_str())
        );
        assert_eq!(field(&seen, "host"), Some(origin.addr.to_string().as_str()));
        assert!(field(&seen, "via").unwrap().starts_with("1.1 flotilla-"));
    }
}

#[tokio::test]
async fn hop_by_hop_fields_are_not_forwarded() {
    let origin = Origin::saying(OK).await;
    let proxy = plain_proxy().await;
    let fields = "Connection: X-Hop\r\nX-Hop: 1\r\nProxy-Connection: x\r\nProxy-Authorization: Basic eA==\r\nKeep-Alive: 5\r\nAuthorization: Bearer t\r\n";
    get(proxy.addr, &format!("http://{}/v2/", origin.addr), fields).await;
    let seen = origin.seen().remove(0).to_ascii_lowercase();
    for name in [
        "connection",
        "x-hop",
        "proxy-connection",
        "proxy-authorization",
        "keep-alive",
    ] {
        assert_eq!(field(&seen, name), None, "{name}");
    }
    assert_eq!(field(&seen, "authorization"), Some("bearer t"));
}

#[tokio::test]
async fn odd_fields_of_an_answer_are_unfolded_or_left_out() {
    for (odd, passed) in [
        (
            "Content-Security-Policy: default-src 'self';\r\n  img-src *;\r\n\tscript-src 'none'",
            Some("Content-Security-Policy"),
        ),
        ("X-Odd : a", Some("X-Odd")),
        ("X-Odd: a\u{1}b", None),
    ] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-Before: 1\r\n{odd}\r\nX-After: 2\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        );
        let origin = Origin::saying(answer).await;
        let proxy = plain_proxy().await;
        let response = get(proxy.addr, &format!("http://{}/v2/", origin.addr), "").await;
        assert_eq!((response.status(), response.text()), (200, "ok"), "{odd:?}");
        assert_eq!(response.field("x-before"), Some("1"));
        assert_eq!(response.field("x-after"), Some("2"));
        match passed {
            Some(name) => assert!(response.field(name).is_some(), "{}", response.head),
            None => assert_eq!(response.field("x-odd"), None),
        }
        let is_field = |line: &str| line.is_empty() || line.contains(": ");
        let mut lines = response.head.split("\r\n").skip(1);
        assert!(lines.all(is_field), "{}", response.head);
    }
}

#[tokio::test]
async fn a_refusal_keeps_its_body_and_says_how_long_it_is() {
    let body = "<Error><Code>InvalidRange</Code></Error>";
    for (status, announced) in [(416, body.len()), (416, 2_000_000), (412, 2_000_000)] {
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\nContent-Length: {announced}\r\nConnection: close\r\n\r\n{body}"
        );
        let origin = Origin::saying(answer).await;
        let proxy = plain_proxy().await;
        let url = format!("http://{}/bucket/object", origin.addr);
        let response = get(proxy.addr, &url, "Range: bytes=5000-\r\n").await;
        assert_eq!((response.status(), response.text()), (status, body));
        assert_eq!(response.field("content-type"), Some("application/xml"));
        let length = body.len().to_string();
        assert_eq!(response.field("content-length"), Some(length.as_str()));
    }
}

#[tokio::test]
async fn a_default_port_that_a_client_writes_reaches_the_server() {
    // Stores sign the name with its port.
    let proxy = plain_proxy().await;
    let origin = Origin::saying(OK).await;
    let port = origin.addr.port();
    let url = format!("http://LocalHost:{port}/signed?sig=a%2Fb");
    assert_eq!(get(proxy.addr, &url, "").await.text(), "ok");
    let expected = format!("LocalHost:{port}");
    assert_eq!(field(&origin.seen()[0], "host"), Some(expected.as_str()));
}

#[tokio::test]
async fn redirects_and_their_fields_are_returned_untouched() {
    let origin = Origin::saying(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: https://s3.test/x?sig=a%2Fb\r\nX-One: 1\r\nX-One: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    )
    .await;
    let proxy = plain_proxy().await;
    let response = get(
        proxy.addr,
        &format!("http://{}/v2/a/manifests/b", origin.addr),
        "",
    )
    .await;
    assert_eq!(response.status(), 307);
    assert_eq!(
        response.field("location"),
        Some("https://s3.test/x?sig=a%2Fb")
    );
    assert!(
        response.head.contains("X-One: 1\r\nX-One: 2\r\n"),
        "{}",
        response.head
    );
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn head_keeps_the_content_length() {
    let origin =
        Origin::saying("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nConnection: close\r\n\r\n")
            .await;
    let proxy = plain_proxy().await;
    let host = origin.addr;
    let request = format!(
        "HEAD http://{host}/v2/a/blobs/x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    );
    let response = exchange(proxy.addr, request).await;
    assert_eq!(response.field("content-length"), Some("1234"));
    assert!(response.body.is_empty());
}

#[tokio::test]
async fn an_empty_put_keeps_its_zero() {
    let origin = Origin::saying(OK).await;
    let proxy = plain_proxy().await;
    let host = origin.addr;
    let request = format!(
        "PUT http://{host}/v2/a/blobs/uploads/u?digest=d HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(exchange(proxy.addr, request).await.text(), "ok");
    assert_eq!(field(&origin.seen()[0], "content-length"), Some("0"));
}

#[tokio::test]
async fn heads_of_64_kib_pass() {
    let origin = Origin::saying(OK).await;
    let proxy = plain_proxy().await;
    let token = "t".repeat(64 * 1024);
    let fields = format!("Authorization: Bearer {token}\r\n");
    let response = get(proxy.addr, &format!("http://{}/v2/", origin.addr), &fields).await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        field(&origin.seen()[0], "authorization").map(str::len),
        Some(token.len() + 7)
    );
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|head, mut stream| async move {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let length = path.len();
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{path}"
        );
        stream.write_all(response.as_bytes()).await.unwrap();
    })
    .await;
    let proxy = plain_proxy().await;
    let host = origin.addr;
    let first = format!("GET http://{host}/first HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let second =
        format!("GET http://{host}/second HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let response = exchange(proxy.addr, first + &second).await;
    assert!(response.text().starts_with("/firstHTTP/1.1 200 OK\r\n"));
    assert!(response.text().ends_with("/second"));
}

#[tokio::test]
async fn trailers_pass() {
    let origin = Origin::saying(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
    )
    .await;
    let proxy = plain_proxy().await;
    let fields = "TE: trailers\r\n";
    let response = get(proxy.addr, &format!("http://{}/x", origin.addr), fields).await;
    assert_eq!(
        response.text().to_ascii_lowercase(),
        "2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"
    );
    assert_eq!(field(&origin.seen()[0], "te"), Some("trailers"));
}

#[tokio::test]
async fn an_unreachable_target_is_a_502_in_the_registries_language() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = plain_proxy().await;
    let response = get(proxy.addr, &format!("http://{free}/v2/?secret=1"), "").await;
    assert_eq!(response.status(), 502);
    assert!(
        response
            .text()
            .contains(&format!("{free} cannot be reached")),
        "{}",
        response.text()
    );
    assert!(!response.text().contains("secret"));
}

#[tokio::test]
async fn a_get_is_repeated_when_a_kept_connection_turns_out_closed() {
    let keeping = Arc::new(Notify::new());
    let closer = Arc::clone(&keeping);
    let origin = Origin::start(move |_, mut stream| {
        let closer = Arc::clone(&closer);
        async move {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await
                .unwrap();
            // The next request on this connection is read, and never answered.
            if !read_head(&mut stream).await.is_empty() {
                closer.notify_one();
            }
        }
    })
    .await;
    let proxy = plain_proxy().await;
    let url = format!("http://{}/v2/", origin.addr);
    assert_eq!(get(proxy.addr, &url, "").await.status(), 200);
    assert_eq!(get(proxy.addr, &url, "").await.status(), 200);
    tokio::time::timeout(DEADLINE, keeping.notified())
        .await
        .expect("the kept connection was used");
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test]
async fn an_upload_is_streamed_and_not_buffered() {
    const PART: usize = 1024 * 1024;
    const PARTS: usize = 256;
    let read_on = Arc::new(Notify::new());
    let reader = Arc::clone(&read_on);
    let origin = Origin::start(move |_, mut stream| {
        let reader = Arc::clone(&reader);
        async move {
            reader.notified().await;
            let mut received = 0_usize;
            let mut buffer = vec![0; PART];
            let mut tail = Vec::new();
            while !tail.ends_with(b"0\r\n\r\n") {
                let read = stream.read(&mut buffer).await.unwrap();
                assert_ne!(read, 0, "the upload breaks off after {received}");
                received += buffer[..read].iter().filter(|byte| **byte == b'u').count();
                tail = [
                    &tail[tail.len().min(8)..],
                    &buffer[read.saturating_sub(8)..read],
                ]
                .concat();
            }
            let body = received.to_string();
            let head = format!(
                "HTTP/1.1 202 Accepted\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            stream
                .write_all(format!("{head}{body}").as_bytes())
                .await
                .unwrap();
        }
    })
    .await;
    let proxy = plain_proxy().await;
    let mut client = TcpStream::connect(proxy.addr).await.unwrap();
    let host = origin.addr;
    let head = format!(
        "PATCH http://{host}/v2/a/blobs/uploads/u?_state=x%3D HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let part = [
        format!("{PART:x}\r\n").into_bytes(),
        vec![b'u'; PART],
        b"\r\n".to_vec(),
    ]
    .concat();
    // The origin reads nothing: sooner or later a write does not finish.
    let (mut sent, mut offset) = (0, 0);
    while let Ok(written) =
        tokio::time::timeout(Duration::from_secs(1), client.write(&part[offset..])).await
    {
        offset += written.unwrap();
        if offset == part.len() {
            (sent, offset) = (sent + 1, 0);
        }
        assert!(
            sent < PARTS / 2,
            "the proxy takes {sent} MiB that are not read"
        );
    }
    read_on.notify_one();
    client.write_all(&part[offset..]).await.unwrap();
    for _ in sent + 1..PARTS {
        client.write_all(&part).await.unwrap();
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    let mut response = String::new();
    tokio::time::timeout(DEADLINE, client.read_to_string(&mut response))
        .await
        .unwrap()
        .unwrap();
    assert!(
        response.starts_with("HTTP/1.1 202 Accepted\r\n"),
        "{response}"
    );
    assert!(
        response.ends_with(&(PART * PARTS).to_string()),
        "{response}"
    );
}

fn expecting_upload(host: std::net::SocketAddr) -> String {
    format!(
        "PUT http://{host}/v2/a/manifests/t HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
}

#[tokio::test]
async fn the_body_is_asked_for_when_the_registry_asks_for_it() {
    let origin = Origin::start(|_, mut stream| async move {
        stream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .await
            .unwrap();
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"body");
        stream
            .write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
    })
    .await;
    let proxy = plain_proxy().await;
    let mut client = TcpStream::connect(proxy.addr).await.unwrap();
    client
        .write_all(expecting_upload(origin.addr).as_bytes())
        .await
        .unwrap();
    let interim = tokio::time::timeout(DEADLINE, read_head(&mut client))
        .await
        .unwrap();
    assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.unwrap();
    let answer = tokio::time::timeout(DEADLINE, read_head(&mut client))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_that_the_registry_does_not_want_is_not_asked_for() {
    let origin = Origin::saying(
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
    )
    .await;
    let proxy = plain_proxy().await;
    let response = exchange(proxy.addr, expecting_upload(origin.addr)).await;
    assert_eq!(response.status(), 401);
    assert_eq!(response.text(), "no");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_to_a_silent_registry_along() {
    let asked = Arc::new(Notify::new());
    let left = Arc::new(Notify::new());
    let (ask, leave) = (Arc::clone(&asked), Arc::clone(&left));
    let origin = Origin::start(move |_, mut stream| {
        let (ask, leave) = (Arc::clone(&ask), Arc::clone(&leave));
        async move {
            ask.notify_one();
            // Never answers; the proxy closes, or this reads for ever.
            let _ = stream.read(&mut [0]).await;
            leave.notify_one();
        }
    })
    .await;
    let proxy = plain_proxy().await;
    let mut client = TcpStream::connect(proxy.addr).await.unwrap();
    let host = origin.addr;
    let request = format!("GET http://{host}/v2/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    tokio::time::timeout(DEADLINE, asked.notified())
        .await
        .unwrap();
    drop(client);
    tokio::time::timeout(DEADLINE, left.notified())
        .await
        .expect("the proxy gives the request up");
}

#[tokio::test]
async fn link_local_addresses_are_refused_however_they_are_written() {
    let proxy = plain_proxy().await;
    for host in [
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "2852039166",
    ] {
        let url = format!("http://{host}/latest/meta-data/");
        let response = tokio::time::timeout(DEADLINE, get(proxy.addr, &url, ""))
            .await
            .unwrap();
        assert_eq!(response.status(), 403, "{host}: {}", response.text());
        assert!(response.text().contains("link-local"), "{host}");
    }
}
