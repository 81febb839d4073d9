//! Content of these tests, and how it is seeded and downloaded.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flotilla_client::PathFilter;
use flotilla_client::torrent_files::{LocalContent, Watch};
use flotilla_get::torrent_swarm::{
    DownloadError, DownloadOptions, Downloaded, Output, SeedOptions, Seeding, SwarmOptions,
    TorrentSource, download, seed,
};
use flotilla_torrents::Metainfo;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Every wait of these tests ends by then.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// A directory with files of odd sizes, and its torrent.
pub(crate) struct Content {
    pub(crate) scratch: TempDir,
    pub(crate) torrent: Metainfo,
}

impl Content {
    pub(crate) fn new(bytes: usize, private: bool) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("data set");
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::write(root.join("a.bin"), random(bytes / 3 + 17, 1)).unwrap();
        fs::write(root.join("empty"), b"").unwrap();
        fs::write(root.join("sub/b?.bin"), random(5, 2)).unwrap();
        fs::write(root.join("sub/deep/c.bin"), random(bytes / 2, 3)).unwrap();
        let torrent = torrent_of(&root, private);
        Self { scratch, torrent }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.scratch.path().join("data set")
    }

    pub(crate) async fn seed(&self, upload_rate: Option<u64>) -> Seeding {
        let options = SeedOptions {
            torrent: Arc::new(self.torrent.clone()),
            place: self.scratch.path().to_owned(),
            swarm: SwarmOptions {
                upload_rate,
                ..loopback()
            },
        };
        seed(options, |_| (), CancellationToken::new())
            .await
            .unwrap()
    }

    pub(crate) fn assert_is_at(&self, path: &Path) {
        for file in ["a.bin", "empty", "sub/b?.bin", "sub/deep/c.bin"] {
            let (found, expected) = (path.join(file), self.root().join(file));
            assert!(
                fs::read(found).unwrap() == fs::read(expected).unwrap(),
                "{file} differs"
            );
        }
    }
}

fn torrent_of(path: &Path, private: bool) -> Metainfo {
    let content = LocalContent::find(path).unwrap();
    let geometry = content.geometry(Some(32 << 10)).unwrap();
    let stop = &CancellationToken::new();
    let advanced = &|_| ();
    let watch = Watch { advanced, stop };
    content.torrent(geometry, private, watch).unwrap()
}

fn random(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(length)
    .collect()
}

pub(crate) fn loopback() -> SwarmOptions {
    SwarmOptions {
        peer_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ..SwarmOptions::default()
    }
}

pub(crate) fn options(
    source: TorrentSource,
    directory: &Path,
    peers: Vec<SocketAddr>,
) -> DownloadOptions {
    DownloadOptions {
        source,
        filter: PathFilter::default(),
        output: Output::In(directory.to_owned()),
        swarm: SwarmOptions {
            peers,
            ..loopback()
        },
        patience: Some(DEADLINE),
        seed_for: None,
        seed_ratio: None,
    }
}

pub(crate) fn by_file(torrent: &Metainfo) -> TorrentSource {
    TorrentSource::from_torrent_file(&torrent.to_bytes()).unwrap()
}

pub(crate) async fn run(options: DownloadOptions) -> Result<Downloaded, DownloadError> {
    let progress = watch::Sender::default();
    let download = download(options, &progress, CancellationToken::new());
    tokio::time::timeout(DEADLINE, download)
        .await
        .expect("done in time")
}

pub(crate) fn tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
