//! The proxy stops gracefully.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod fakes;

use std::sync::Arc;

use fakes::origin::{Origin, read_head};
use fakes::{DEADLINE, plain_proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

#[tokio::test]
async fn a_response_under_way_is_finished_and_idle_connections_are_closed() {
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let origin = Origin::start(move |_, mut stream| {
        let released = Arc::clone(&released);
        async move {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
                .await
                .unwrap();
            released.notified().await;
            stream.write_all(b"rest").await.unwrap();
        }
    })
    .await;
    let proxy = plain_proxy().await;
    let mut idle = TcpStream::connect(proxy.addr).await.unwrap();
    let mut busy = TcpStream::connect(proxy.addr).await.unwrap();
    let request = format!(
        "GET http://{0}/x HTTP/1.1\r\nHost: {0}\r\n\r\n",
        origin.addr
    );
    busy.write_all(request.as_bytes()).await.unwrap();
    read_head(&mut busy).await;
    proxy.shutdown.cancel();
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, idle.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(rest.is_empty());
    release.notify_one();
    tokio::time::timeout(DEADLINE, busy.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest, b"halfrest");
    tokio::time::timeout(DEADLINE, proxy.served)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(proxy.addr).await.is_err());
}
