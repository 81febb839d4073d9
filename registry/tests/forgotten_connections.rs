//! Connections that something between has forgotten: new ones work, and kept ones are silent.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flotilla_registry::source::{Source, SourceConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// Far below what a source is waited for.
const DEADLINE: Duration = Duration::from_secs(30);
const ANSWER: &[u8] =
    b"HTTP/1.1 206 X\r\nContent-Length: 1\r\nContent-Range: bytes 0-0/1000\r\n\r\nx";

/// False: the connection ended before.
async fn has_head(stream: &mut TcpStream) -> bool {
    let mut end = [0; 4];
    while end != *b"\r\n\r\n" {
        end.rotate_left(1);
        let Ok(byte) = stream.read_u8().await else {
            return false;
        };
        end[3] = byte;
    }
    true
}

/// Answers the first request of each connection.
async fn forgetting() -> (Url, Arc<AtomicUsize>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v2/a/blobs/x", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                // The first connection only shows that the registry is there.
                if !has_head(&mut stream).await {
                    return;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(ANSWER).await;
                std::future::pending::<()>().await;
            });
        }
    });
    (url.parse().unwrap(), connections)
}

#[tokio::test]
async fn a_question_on_a_forgotten_connection_is_asked_again_on_a_new_one() {
    let (url, _) = forgetting().await;
    let source = Source::new(&SourceConfig::default()).unwrap();
    for _ in 0..3 {
        let probed = tokio::time::timeout(DEADLINE, source.probe(&url, &[])).await;
        assert_eq!(probed.unwrap().unwrap().total, Some(1000));
    }
}

#[tokio::test]
async fn content_is_opened_on_connections_of_its_own() {
    let (url, connections) = forgetting().await;
    let source = Source::new(&SourceConfig::default()).unwrap();
    for opened in 1..4 {
        let body = tokio::time::timeout(DEADLINE, source.open(&url, &[], 0)).await;
        assert_eq!(body.unwrap().unwrap().total, Some(1000));
        assert_eq!(connections.load(Ordering::SeqCst), opened);
    }
}
