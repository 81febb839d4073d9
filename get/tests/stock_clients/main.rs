//! Torrents between flotilla and aria2, transmission, libtorrent and qBittorrent on loopback: each
//! downloads from flotilla as the only seeder, and flotilla from each.
//!
//! Needs aria2c, transmission-cli, Debian's python3-libtorrent and qbittorrent-nox (`make setup`). None needs a
//! tracker: flotilla dials the others, which also spares them a loopback address that they would
//! not dial themselves (transmission).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_client::PathFilter;
use flotilla_client::torrent_files::{LocalContent, Watch};
use flotilla_get::torrent_swarm::{
    DownloadOptions, Output, SeedOptions, SwarmOptions, TorrentSource, download, seed,
};
use flotilla_torrents::Metainfo;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Every wait of these tests ends by then; stock clients look around every few seconds.
const DEADLINE: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Debian's own interpreter has Debian's libtorrent; another one on PATH has not.
const PYTHON: &str = "/usr/bin/python3";

/// transmission-cli ends when it happens to look while it turns a magnet link into a torrent, which
/// it calls stopped; started again it continues. It ends with the shell.
const TRANSMISSION: &str =
    r#"while :; do setpriv --pdeathsig KILL -- transmission-cli "$@"; sleep 1; done"#;

#[derive(Clone, Copy, Debug)]
enum Client {
    Aria2,
    Transmission,
    Libtorrent,
    Qbittorrent,
}

/// A stock client that runs until it is dropped.
struct Running {
    child: Child,
    address: SocketAddr,
    _config: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Either may find that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    /// Starts it with `source`, a .torrent or a magnet link, and its content in `directory`, whole
    /// or to come.
    async fn start(self, source: &str, directory: &Path) -> Running {
        let port = free_port();
        let config = tempfile::tempdir().unwrap();
        let mut command = match self {
            Self::Aria2 => {
                let mut command = Command::new("aria2c");
                command
                    .arg(format!("--dir={}", directory.display()))
                    .arg(format!("--listen-port={port}"))
                    .args(["--enable-dht=false", "--enable-dht6=false"])
                    .args(["--bt-enable-lpd=false", "--seed-ratio=0.0"])
                    .args(["--check-integrity=true", "--bt-seed-unverified=false"])
                    .args(["--allow-overwrite=true", "--bt-save-metadata=false"])
                    .args(["--file-allocation=none", "--no-conf=true"])
                    .args(["--interface=127.0.0.1", "--disable-ipv6=true"])
                    .arg(source);
                command
            }
            Self::Transmission => {
                // uTP is tried first and for long; the rest would look for peers elsewhere.
                let settings = r#"{"utp-enabled": false, "dht-enabled": false,
                    "lpd-enabled": false, "port-forwarding-enabled": false}"#;
                fs::write(config.path().join("settings.json"), settings).unwrap();
                let mut command = Command::new("sh");
                command
                    .args(["-c", TRANSMISSION, "sh"])
                    .arg("--config-dir")
                    .arg(config.path())
                    .arg("--download-dir")
                    .arg(directory)
                    .args(["--port", &port.to_string(), "--no-portmap"])
                    .arg(source);
                command
            }
            Self::Libtorrent => {
                let script = concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/tests/stock_clients/libtorrent_client.py"
                );
                let mut command = Command::new(PYTHON);
                command
                    .args([script, source])
                    .arg(directory)
                    .args(["127.0.0.1", &port.to_string()]);
                command
            }
            Self::Qbittorrent => {
                let settings = config.path().join("qBittorrent/config");
                fs::create_dir_all(&settings).unwrap();
                let text = qbittorrent_settings(port, directory);
                fs::write(settings.join("qBittorrent.conf"), text).unwrap();
                let mut command = Command::new("qbittorrent-nox");
                command
                    .arg(format!("--profile={}", config.path().display()))
                    .arg(format!("--webui-port={}", free_port()))
                    .arg(source);
                command
            }
        };
        command.stdin(Stdio::null());
        let log = fs::File::create(config.path().join("log")).unwrap();
        command.stderr(log.try_clone().unwrap()).stdout(log);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{self:?} is needed here (make setup): {error}"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let running = Running {
            child,
            address,
            _config: config,
        };
        let listens = async || tokio::net::TcpStream::connect(address).await.is_ok();
        until(&format!("{self:?} listens"), listens).await;
        running
    }
}

/// It asks no questions and looks for peers nowhere; on loopback they all have one address.
fn qbittorrent_settings(port: u16, directory: &Path) -> String {
    format!(
        "[LegalNotice]\nAccepted=true\n\n[BitTorrent]\nSession\\Port={port}\n\
         Session\\InterfaceAddress=127.0.0.1\nSession\\Interface=lo\n\
         Session\\InterfaceName=lo\nSession\\DHTEnabled=false\nSession\\LSDEnabled=false\n\
         Session\\MultiConnectionsPerIp=true\nSession\\AddTorrentPaused=false\n\
         Session\\DefaultSavePath={}\n\n[Network]\nPortForwardingEnabled=false\n\n\
         [Preferences]\nWebUI\\Address=127.0.0.1\n",
        directory.display()
    )
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, wait).await;
    waited.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"));
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A directory of three files and its torrent.
struct Content {
    scratch: TempDir,
    torrent: Metainfo,
}

const NAME: &str = "content";
const FILES: [(&str, usize); 3] = [("a", 3_000_001), ("sub/b", 17), ("sub/c", 2_000_000)];

impl Content {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join(NAME);
        fs::create_dir_all(root.join("sub")).unwrap();
        for (number, (file, length)) in FILES.into_iter().enumerate() {
            let byte = |at: usize| u8::try_from((at * 31 + at / 253 + number) % 251).unwrap();
            let bytes: Vec<u8> = (0..length).map(byte).collect();
            fs::write(root.join(file), bytes).unwrap();
        }
        let content = LocalContent::find(&root).unwrap();
        let geometry = content.geometry(Some(128 << 10)).unwrap();
        let stop = &CancellationToken::new();
        let advanced = &|_| ();
        let watch = Watch { advanced, stop };
        let torrent = content.torrent(geometry, false, watch).unwrap();
        let torrent_file = scratch.path().join("content.torrent");
        fs::write(torrent_file, torrent.to_bytes()).unwrap();
        Self { scratch, torrent }
    }

    fn torrent_file(&self) -> String {
        let path = self.scratch.path().join("content.torrent");
        path.to_str().unwrap().to_owned()
    }

    fn is_in(&self, directory: &Path) -> bool {
        FILES.iter().all(|(file, _)| {
            let expected = fs::read(self.scratch.path().join(NAME).join(file)).unwrap();
            fs::read(directory.join(NAME).join(file)).is_ok_and(|found| found == expected)
        })
    }

    /// `client` gets the content, with flotilla alone to have it from.
    async fn goes_to(&self, client: Client, source: &str) {
        let target = tempfile::tempdir().unwrap();
        let running = client.start(source, target.path()).await;
        let options = SeedOptions {
            torrent: Arc::new(self.torrent.clone()),
            place: self.scratch.path().to_owned(),
            swarm: beside(running.address),
        };
        let seeding = seed(options, |_| (), CancellationToken::new());
        let seeding = seeding.await.unwrap();
        let what = format!("{client:?} has the content");
        until(&what, async || self.is_in(target.path())).await;
        seeding.end().await;
    }

    /// Flotilla gets the content, with `client` alone to have it from.
    async fn comes_from(&self, client: Client, source: TorrentSource) {
        let running = client
            .start(&self.torrent_file(), self.scratch.path())
            .await;
        let target = tempfile::tempdir().unwrap();
        let options = DownloadOptions {
            source,
            filter: PathFilter::default(),
            output: Output::In(target.path().to_owned()),
            swarm: beside(running.address),
            patience: Some(DEADLINE),
            seed_for: None,
            seed_ratio: None,
        };
        let progress = watch::Sender::default();
        let got = download(options, &progress, CancellationToken::new()).await;
        got.unwrap_or_else(|error| panic!("{client:?}: {error}"));
        assert!(self.is_in(target.path()));
    }

    async fn exchange_with(&self, client: Client) {
        let magnet = self.torrent.magnet();
        let start = Instant::now();
        let say = |what| eprintln!("{client:?}: {what} after {:?}", start.elapsed());
        self.goes_to(client, &self.torrent_file()).await;
        say("it has the content by the torrent file");
        self.goes_to(client, &magnet.to_string()).await;
        say("it has the content by the magnet link");
        let file = TorrentSource::Metainfo(Box::new(self.torrent.clone()));
        self.comes_from(client, file).await;
        say("flotilla has the content by the torrent file");
        self.comes_from(client, TorrentSource::Magnet(magnet)).await;
        say("flotilla has the content by the magnet link");
    }
}

fn beside(peer: SocketAddr) -> SwarmOptions {
    SwarmOptions {
        peer_listen: "127.0.0.1:0".parse().unwrap(),
        peers: vec![peer],
        ..SwarmOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aria2_and_flotilla_have_torrents_from_each_other() {
    Content::new().exchange_with(Client::Aria2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transmission_and_flotilla_have_torrents_from_each_other() {
    Content::new().exchange_with(Client::Transmission).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn libtorrent_and_flotilla_have_torrents_from_each_other() {
    Content::new().exchange_with(Client::Libtorrent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn qbittorrent_and_flotilla_have_torrents_from_each_other() {
    Content::new().exchange_with(Client::Qbittorrent).await;
}
