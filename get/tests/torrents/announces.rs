//! What a download announces to trackers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use flotilla_client::PathFilter;
use flotilla_get::torrent_swarm::DownloadOptions;
use glob::Pattern;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::content::{Content, by_file, options, run, tls};

/// A tracker that knows no peers and wants to be asked every second.
struct Tracker {
    address: SocketAddr,
    /// Event and `left` of each announce.
    announced: Arc<Mutex<Vec<(String, u64)>>>,
}

impl Tracker {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let announced = Arc::default();
        let recorder = Arc::clone(&announced);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&recorder)));
            }
        });
        Self { address, announced }
    }

    fn announced(&self) -> Vec<(String, u64)> {
        self.announced.lock().unwrap().clone()
    }
}

/// Announces without an event are heard and never answered, so that the client is waiting for that
/// when the download ends.
async fn answer(
    mut stream: TcpStream,
    announced: Arc<Mutex<Vec<(String, u64)>>>,
) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        let query = head.split([' ', '?']).nth(2).unwrap();
        let field = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let value = pairs.find(|(key, _)| *key == name);
            value.map_or("", |(_, value)| value).to_owned()
        };
        let event = field("event");
        let is_plain = event.is_empty();
        let left = field("left").parse().unwrap();
        announced.lock().unwrap().push((event, left));
        if is_plain {
            continue;
        }
        let body = "d8:intervali1e12:min intervali1e5:peers0:e";
        let length = body.len();
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(reply.as_bytes()).await?;
    }
}

/// Downloads for longer than a second, and ends at once.
async fn announces_of(content: &Content, filter: PathFilter) -> Vec<(String, u64)> {
    tls();
    let tracker = Tracker::start().await;
    let seeding = content.seed(Some(400_000)).await;
    let target = tempfile::tempdir().unwrap();
    let peers = vec![seeding.listen_addr()];
    let mut options = DownloadOptions {
        filter,
        ..options(by_file(&content.torrent), target.path(), peers)
    };
    options.swarm.trackers = vec![vec![format!("http://{}/announce", tracker.address)]];
    run(options).await.unwrap();
    tracker.announced()
}

fn events(announced: &[(String, u64)]) -> Vec<&str> {
    let events = announced.iter().map(|(event, _)| event.as_str());
    events.filter(|event| !event.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_ends_with_its_last_piece_is_told_as_completed_first() {
    let content = Content::new(1_500_000, false);
    let announced = announces_of(&content, PathFilter::default()).await;
    assert_eq!(
        events(&announced),
        ["started", "completed", "stopped"],
        "{announced:?}"
    );
    let whole = content.torrent.geometry().length();
    assert_eq!(announced[0].1, whole);
    assert_eq!(announced.last().unwrap().1, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_files_are_never_announced_as_the_whole() {
    let content = Content::new(1_500_000, false);
    let only = PathFilter {
        include: vec![Pattern::new("c.bin").unwrap()],
        exclude: Vec::new(),
    };
    let announced = announces_of(&content, only).await;
    assert_eq!(events(&announced), ["started", "stopped"], "{announced:?}");
    let whole = content.torrent.geometry().length();
    assert_eq!(announced[0].1, whole);
    let others = std::fs::metadata(content.root().join("a.bin"))
        .unwrap()
        .len();
    let left = announced.last().unwrap().1;
    // The pieces of a.bin that c.bin has no bytes in.
    assert!(
        left <= others && left + 2 * 32_768 > others,
        "{left} of {others}"
    );
}
