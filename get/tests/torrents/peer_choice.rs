//! Which peers are dialled when there are more than that.

use std::net::Ipv4Addr;

use flotilla_get::torrent_swarm::download;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::content::{Content, DEADLINE, by_file, options, tls};

/// Of 127.0.0.2 to 127.0.0.61, those with the least priority for 127.0.0.1 (BEP 40), by another
/// implementation.
const LEFT_OUT: [u8; 20] = [
    2, 4, 7, 14, 17, 18, 20, 23, 29, 30, 33, 34, 36, 39, 40, 49, 50, 52, 55, 59,
];

#[tokio::test(flavor = "multi_thread")]
async fn of_too_many_peers_those_of_the_canonical_order_are_dialled() {
    tls();
    let content = Content::new(100_000, false);
    let (dialled, mut accepted) = mpsc::unbounded_channel();
    let mut peers = Vec::new();
    for last in 2..62 {
        let address = Ipv4Addr::new(127, 0, 0, last);
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        peers.push(listener.local_addr().unwrap());
        let dialled = dialled.clone();
        tokio::spawn(async move {
            // A peer that is met and says nothing keeps its place for some seconds.
            let met = listener.accept().await.unwrap();
            dialled.send(last).unwrap();
            std::future::pending::<()>().await;
            drop(met);
        });
    }
    let target = tempfile::tempdir().unwrap();
    let options = options(by_file(&content.torrent), target.path(), peers);
    let stop = CancellationToken::new();
    let downloading = tokio::spawn({
        let stop = stop.clone();
        async move { download(options, &watch::Sender::default(), stop).await }
    });
    let mut first = Vec::new();
    while first.len() < 40 {
        let next = tokio::time::timeout(DEADLINE, accepted.recv()).await;
        first.push(next.unwrap().unwrap());
    }
    first.sort_unstable();
    let expected: Vec<u8> = (2..62).filter(|last| !LEFT_OUT.contains(last)).collect();
    assert_eq!(first, expected);
    stop.cancel();
    downloading.await.unwrap().unwrap_err();
}
