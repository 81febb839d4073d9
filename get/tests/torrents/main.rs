//! Torrents between real engines, web servers and hostile peers on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]

mod announces;
mod content;
mod peer_choice;
mod selection;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use content::{Content, DEADLINE, by_file, loopback, options, run, tls};
use flotilla_get::torrent_swarm::{
    DownloadError, Phase, Progress, SeedError, SeedOptions, download, seed,
};
use flotilla_torrents::peer_wire::{
    ExtendedHandshake, Handshake, Message, MessageDecoder, MetadataMessage,
};
use flotilla_torrents::{Metainfo, PeerId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What a test that expects a failure waits for.
const SHORT_TIMEOUT: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_arrives_whole_by_its_torrent_file() {
    tls();
    let content = Content::new(3_000_000, false);
    let seeding = content.seed(None).await;
    let target = tempfile::tempdir().unwrap();
    let source = by_file(&content.torrent);
    let got = run(options(source, target.path(), vec![seeding.listen_addr()]))
        .await
        .unwrap();
    content.assert_is_at(&got.path);
    assert_eq!(got.fetched, content.torrent.geometry().length());
    let left: Vec<_> = fs::read_dir(target.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "only the content is left: {left:?}");
    seeding.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_magnet_link_with_a_peer_is_enough() {
    tls();
    let content = Content::new(1_000_000, true);
    let seeding = content.seed(None).await;
    let magnet = content
        .torrent
        .magnet()
        .with_peers(vec![seeding.listen_addr()]);
    let target = tempfile::tempdir().unwrap();
    let source = magnet.to_string().parse().unwrap();
    let got = run(options(source, target.path(), Vec::new()))
        .await
        .unwrap();
    assert_eq!(got.path, target.path().join("data set"));
    content.assert_is_at(&got.path);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_download_goes_on_with_what_is_missing() {
    tls();
    let content = Content::new(6_000_000, false);
    let seeding = content.seed(Some(2_000_000)).await;
    let target = tempfile::tempdir().unwrap();
    let again = || {
        let peers = vec![seeding.listen_addr()];
        options(by_file(&content.torrent), target.path(), peers)
    };
    let (progress, mut watched) = watch::channel(Progress::default());
    let stop = CancellationToken::new();
    let first = tokio::spawn({
        let (options, stop) = (again(), stop.clone());
        async move { download(options, &progress, stop).await }
    });
    let third = content.torrent.geometry().length() / 3;
    let arrived = watched.wait_for(|progress| progress.held > third);
    let held = tokio::time::timeout(DEADLINE, arrived)
        .await
        .unwrap()
        .unwrap()
        .held;
    stop.cancel();
    let interrupted = first.await.unwrap();
    assert!(matches!(interrupted, Err(DownloadError::Stopped)));
    assert!(!target.path().join("data set").exists());
    let got = run(again()).await.unwrap();
    content.assert_is_at(&got.path);
    let missing = content.torrent.geometry().length() - held;
    assert!(got.fetched <= missing, "{} of {missing}", got.fetched);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_hear_of_each_other_from_the_one_they_know() {
    tls();
    let content = Content::new(4_000_000, false);
    let seeding = content.seed(Some(600_000)).await;
    let mut downloads = Vec::new();
    let stop = CancellationToken::new();
    for _ in 0..2 {
        let target = tempfile::tempdir().unwrap();
        let peers = vec![seeding.listen_addr()];
        let options = options(by_file(&content.torrent), target.path(), peers);
        let (progress, watched) = watch::channel(Progress::default());
        let stop = stop.clone();
        let task = tokio::spawn(async move { download(options, &progress, stop).await });
        downloads.push((task, watched, target));
    }
    for (_, watched, _) in &mut downloads {
        // The seeder, and the other.
        let met = watched.wait_for(|progress| progress.peers == 2);
        tokio::time::timeout(DEADLINE, met).await.unwrap().unwrap();
    }
    stop.cancel();
    for (task, _, _) in downloads {
        let _ = task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_torrent_offers_no_peer_exchange() {
    for private in [false, true] {
        let content = Content::new(100_000, private);
        let seeding = content.seed(None).await;
        let mut peer = RawPeer::dial(seeding.listen_addr(), &content.torrent).await;
        let offered = peer.extended_handshake().await.m;
        assert!(offered.contains_key("ut_metadata"), "{offered:?}");
        assert_eq!(offered.contains_key("ut_pex"), !private, "{offered:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_any_extension_is_served() {
    let content = Content::new(300_000, false);
    let seeding = content.seed(None).await;
    let mut peer = RawPeer::dial_plain(seeding.listen_addr(), &content.torrent).await;
    assert!(matches!(peer.next().await, Message::Bitfield(_)));
    assert_eq!(peer.next().await, Message::Unchoke);
    let request = Message::Request {
        index: 1,
        begin: 0,
        length: 16 << 10,
    };
    peer.send(&request).await;
    let Message::Piece { index, data, .. } = peer.next().await else {
        panic!("no piece");
    };
    let file = fs::read(content.root().join("a.bin")).unwrap();
    assert_eq!((index, &data[..]), (1, &file[32 << 10..48 << 10]));
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_content_is_not_seeded() {
    let content = Content::new(500_000, false);
    let path = content.root().join("a.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[40_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let options = SeedOptions {
        torrent: Arc::new(content.torrent.clone()),
        place: content.root(),
        swarm: loopback(),
    };
    let refused = seed(options, |_| (), CancellationToken::new()).await;
    let Err(SeedError::Damaged(found, _)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(found.damaged.to_string(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_seed_alone_brings_the_whole() {
    tls();
    let content = Content::new(2_000_000, false);
    let server = WebServer::start(content.scratch.path().to_owned(), Answer::Range).await;
    let target = tempfile::tempdir().unwrap();
    let mut options = options(by_file(&content.torrent), target.path(), Vec::new());
    options.swarm.web_seeds = vec![server.url()];
    let got = run(options).await.unwrap();
    content.assert_is_at(&got.path);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_seed_that_does_not_answer_ranges_is_dropped_and_peers_bring_the_rest() {
    tls();
    let content = Content::new(500_000, false);
    for answer in [
        Answer::Whole,
        Answer::OtherRange,
        Answer::Short,
        Answer::Damaged,
    ] {
        let server = WebServer::start(content.scratch.path().to_owned(), answer).await;
        let target = tempfile::tempdir().unwrap();
        let mut alone = options(by_file(&content.torrent), target.path(), Vec::new());
        alone.swarm.web_seeds = vec![server.url()];
        alone.patience = Some(SHORT_TIMEOUT);
        let stalled = run(alone.clone()).await;
        assert!(
            matches!(stalled, Err(DownloadError::Stalled { .. })),
            "{answer:?}: {stalled:?}"
        );
        let seeding = content.seed(None).await;
        alone.swarm.peers = vec![seeding.listen_addr()];
        alone.patience = Some(DEADLINE);
        let got = run(alone).await.unwrap();
        content.assert_is_at(&got.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_about_the_metainfo_is_refused_and_an_honest_peer_heard() {
    tls();
    let content = Content::new(500_000, false);
    let target = tempfile::tempdir().unwrap();
    let other = Content::new(1000, false);
    let mut liars = Vec::new();
    for lie in [
        Lie::Size(0),
        Lie::Size(u32::MAX),
        Lie::Info(other.torrent.info().to_vec()),
    ] {
        liars.push(lying_peer(content.torrent.clone(), lie).await);
    }
    let source = || content.torrent.magnet().to_string().parse().unwrap();
    let mut alone = options(source(), target.path(), liars.clone());
    alone.patience = Some(SHORT_TIMEOUT);
    let refused = run(alone).await;
    assert!(
        matches!(refused, Err(DownloadError::Stalled { .. })),
        "{refused:?}"
    );
    let seeding = content.seed(None).await;
    liars.push(seeding.listen_addr());
    let got = run(options(source(), target.path(), liars)).await.unwrap();
    content.assert_is_at(&got.path);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_downloaded_is_seeded_until_the_ratio_is_reached() {
    tls();
    let content = Content::new(1_000_000, false);
    let seeding = content.seed(None).await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let peers = vec![seeding.listen_addr()];
    let mut to_seed = options(by_file(&content.torrent), first.path(), peers);
    to_seed.swarm.peer_listen = address;
    to_seed.seed_ratio = Some(1.0);
    let (progress, mut watched) = watch::channel(Progress::default());
    let seeder =
        tokio::spawn(async move { download(to_seed, &progress, CancellationToken::new()).await });
    let seeds = watched.wait_for(|progress| progress.phase == Phase::Seeding);
    tokio::time::timeout(DEADLINE, seeds)
        .await
        .unwrap()
        .unwrap();
    seeding.end().await;
    let source = by_file(&content.torrent);
    let got = run(options(source, second.path(), vec![address]))
        .await
        .unwrap();
    content.assert_is_at(&got.path);
    let seeded = tokio::time::timeout(DEADLINE, seeder)
        .await
        .unwrap()
        .unwrap();
    assert!(seeded.unwrap().uploaded >= content.torrent.geometry().length());
}

/// A peer that is played by the test.
struct RawPeer {
    stream: TcpStream,
    received: BytesMut,
    decoder: MessageDecoder,
}

impl RawPeer {
    async fn dial(remote: SocketAddr, torrent: &Metainfo) -> Self {
        Self::meet(TcpStream::connect(remote).await.unwrap(), torrent, true).await
    }

    async fn dial_plain(remote: SocketAddr, torrent: &Metainfo) -> Self {
        Self::meet(TcpStream::connect(remote).await.unwrap(), torrent, false).await
    }

    async fn meet(mut stream: TcpStream, torrent: &Metainfo, extended: bool) -> Self {
        let handshake = Handshake {
            info_hash: torrent.info_hash(),
            peer_id: PeerId::from_bytes(*b"-XX0001-abcdefghijkl"),
            extended,
            fast: false,
        };
        stream.write_all(&handshake.encode()).await.unwrap();
        let mut theirs = [0; Handshake::LENGTH];
        stream.read_exact(&mut theirs).await.unwrap();
        let theirs = Handshake::decode(&theirs).unwrap();
        assert_eq!(theirs.info_hash, torrent.info_hash());
        Self {
            stream,
            received: BytesMut::new(),
            decoder: MessageDecoder::new(1 << 20),
        }
    }

    async fn next(&mut self) -> Message {
        loop {
            if let Some(message) = self.decoder.decode(&mut self.received).unwrap() {
                return message;
            }
            let read = self.stream.read_buf(&mut self.received);
            let read = tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap();
            assert_ne!(read, 0, "the connection is closed");
        }
    }

    async fn extended_handshake(&mut self) -> ExtendedHandshake {
        loop {
            if let Message::Extended { id: 0, payload } = self.next().await {
                return ExtendedHandshake::from_bytes(&payload).unwrap();
            }
        }
    }

    async fn send(&mut self, message: &Message) {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
    }
}

#[derive(Clone, Debug)]
enum Lie {
    Size(u32),
    Info(Vec<u8>),
}

/// Listens as a peer that offers another metainfo than that of the torrent.
async fn lying_peer(torrent: Metainfo, lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (torrent, lie) = (torrent.clone(), lie.clone());
            tokio::spawn(async move { lie_to(stream, &torrent, lie).await });
        }
    });
    address
}

async fn lie_to(stream: TcpStream, torrent: &Metainfo, lie: Lie) {
    let mut peer = RawPeer::meet(stream, torrent, true).await;
    let size = match &lie {
        Lie::Size(size) => *size,
        Lie::Info(info) => info.len() as u32,
    };
    let handshake = ExtendedHandshake {
        m: BTreeMap::from([("ut_metadata".to_owned(), 7)]),
        metadata_size: Some(size),
        ..ExtendedHandshake::default()
    };
    let payload = Bytes::from(handshake.to_bytes());
    peer.send(&Message::Extended { id: 0, payload }).await;
    let theirs = peer.extended_handshake().await.m["ut_metadata"];
    loop {
        let Message::Extended { id: 7, payload } = peer.next().await else {
            continue;
        };
        let Lie::Info(info) = &lie else {
            panic!("asked for {size} bytes");
        };
        let Ok(MetadataMessage::Request { piece }) = MetadataMessage::from_bytes(&payload) else {
            continue;
        };
        let start = piece as usize * MetadataMessage::PIECE;
        let end = info.len().min(start + MetadataMessage::PIECE);
        let data = MetadataMessage::Data {
            piece,
            total_size: size,
            data: Bytes::copy_from_slice(&info[start..end]),
        };
        let payload = Bytes::from(data.to_bytes());
        peer.send(&Message::Extended {
            id: theirs,
            payload,
        })
        .await;
    }
}

/// How a web server answers a range.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Range,
    Whole,
    OtherRange,
    Short,
    Damaged,
}

struct WebServer {
    address: SocketAddr,
}

impl WebServer {
    async fn start(root: PathBuf, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, root.clone(), answer));
            }
        });
        Self { address }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

async fn serve(mut stream: TcpStream, root: PathBuf, answer: Answer) -> std::io::Result<()> {
    let mut received = BytesMut::new();
    loop {
        let head = loop {
            if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break received.split_to(end + 4);
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8(head.to_vec()).unwrap();
        let path = head.split(' ').nth(1).unwrap().replace("%20", " ");
        let path = path.replace("%3F", "?");
        let bytes = fs::read(root.join(path.trim_start_matches('/'))).unwrap();
        let range = head
            .lines()
            .find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("range: bytes=")
                    .map(str::to_owned)
            })
            .unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let mut body = bytes[first..=last].to_vec();
        let status = match answer {
            Answer::Whole => "200 OK".to_owned(),
            _ => "206 Partial Content".to_owned(),
        };
        let mut content_range = format!("bytes {first}-{last}/{}", bytes.len());
        match answer {
            Answer::Range => {}
            Answer::Whole => body = bytes,
            Answer::OtherRange => content_range = content_range.replace("-", "0-"),
            Answer::Short => {
                body.pop();
            }
            Answer::Damaged => body[0] ^= 1,
        }
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: {content_range}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
    }
}
