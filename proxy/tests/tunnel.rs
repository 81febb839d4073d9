//! `CONNECT`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod fakes;

use fakes::origin::read_head;
use fakes::raw_client::exchange;
use fakes::{DEADLINE, plain_proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_side_that_ends_first_still_hears_the_other() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = String::new();
        stream.read_to_string(&mut asked).await.unwrap();
        // The client has closed its half; the answer still reaches it.
        stream
            .write_all(format!("heard {asked}").as_bytes())
            .await
            .unwrap();
    });
    let proxy = plain_proxy().await;
    let mut client = TcpStream::connect(proxy.addr).await.unwrap();
    // The first bytes come along with the request, before the tunnel is open.
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nearly ");
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = tokio::time::timeout(DEADLINE, read_head(&mut client))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        !answer.to_ascii_lowercase().contains("content-length"),
        "{answer}"
    );
    client.write_all(b"late").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = String::new();
    tokio::time::timeout(DEADLINE, client.read_to_string(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard, "heard early late");
    server.await.unwrap();
}

#[tokio::test]
async fn a_server_that_ends_first_still_hears_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"bye").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        rest
    });
    let proxy = plain_proxy().await;
    let mut client = TcpStream::connect(proxy.addr).await.unwrap();
    client
        .write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    read_head(&mut client).await;
    let mut heard = String::new();
    tokio::time::timeout(DEADLINE, client.read_to_string(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard, "bye");
    client.write_all(b"still here").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(
        tokio::time::timeout(DEADLINE, server)
            .await
            .unwrap()
            .unwrap(),
        "still here"
    );
}

#[tokio::test]
async fn failures_are_immediate_and_clean() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = plain_proxy().await;
    for (target, status) in [
        (free.to_string(), 502),
        ("169.254.169.254:80".to_owned(), 403),
        ("[fe80::1]:80".to_owned(), 403),
    ] {
        let request =
            format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
        let response = exchange(proxy.addr, request).await;
        assert_eq!(response.status(), status, "{target}");
        assert!(
            response.text().starts_with("{\"errors\":["),
            "{}",
            response.text()
        );
    }
}
