//! Torrents and magnet links, through their own swarms.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_cluster::{redacted, root_cause};
use http::StatusCode;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use url::Url;

use super::call::Call;
use super::error::GetError;
use super::events::{GetEvent, Reporter, Way};
use super::stop::Stop;
use super::{GetFile, GetSource};
use crate::http::source_client::{SourceFailure, Wanted};
use crate::torrent_swarm::{
    self, DownloadOptions, Output, Phase, Progress, SwarmOptions, TorrentSource,
};

/// Longest .torrent that is read; [`flotilla_torrents::Metainfo::from_bytes`] has the same cap.
const MAX_TORRENT_BYTES: u64 = 24 * 1024 * 1024;
/// A torrent that brings nothing for this long is given up; trackers are asked again sooner.
const STALL_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// One torrent.
pub(crate) struct FromTorrent<'a> {
    pub(crate) call: &'a Call,
    pub(crate) file: &'a GetFile,
    pub(crate) reporter: &'a Reporter,
    pub(crate) stop: &'a Stop,
}

impl FromTorrent<'_> {
    /// Brings it to its place and seeds it as asked.
    pub(crate) async fn fetch(&self, source: &GetSource) -> Result<(), GetError> {
        self.reporter.tell(&GetEvent::Started {
            url: named(source),
            way: Way::Torrent,
        });
        let source = self.stop.or(self.torrent(source)).await??;
        let (progress, mut watched) = watch::channel(Progress::default());
        let stop = self.call.shutdown.child_token();
        let download = torrent_swarm::download(self.options(source), &progress, stop.clone());
        let mut download = std::pin::pin!(download);
        let mut is_complete = false;
        let downloaded = loop {
            tokio::select! {
                downloaded = &mut download => break downloaded?,
                Ok(()) = watched.changed() => {
                    let now = *watched.borrow_and_update();
                    let length = (now.length > 0).then_some(now.length);
                    self.reporter.progress(now.held, length, now.peers);
                    if now.phase == Phase::Seeding && !is_complete {
                        is_complete = true;
                        self.completed(now.length);
                    }
                }
                // A complete torrent is late for nothing.
                error = self.stop.reached(), if !is_complete => {
                    stop.cancel();
                    let _ = download.await;
                    return Err(error);
                }
            }
        };
        if !is_complete {
            self.completed(downloaded.length);
        }
        Ok(())
    }

    fn completed(&self, length: u64) {
        self.reporter.set_from_swarm(length, length);
        self.reporter.completed(length, None);
    }

    fn options(&self, source: TorrentSource) -> DownloadOptions {
        let options = &self.call.options;
        let defaults = SwarmOptions::default();
        let output = &self.file.output;
        let directory = || output.parent().map(Path::to_owned).unwrap_or_default();
        DownloadOptions {
            source,
            filter: self.file.filter.clone(),
            output: match self.file.names_itself {
                true => Output::In(directory()),
                false => Output::At(output.clone()),
            },
            swarm: SwarmOptions {
                peer_listen: options.peer_listen.unwrap_or(defaults.peer_listen),
                upload_rate: options.upload_rate,
                download_rate: options.download_rate,
                ..defaults
            },
            patience: Some(STALL_TIMEOUT),
            seed_for: options.seeding.time,
            seed_ratio: options.seeding.ratio,
        }
    }

    async fn torrent(&self, source: &GetSource) -> Result<TorrentSource, GetError> {
        let (name, bytes) = match source {
            GetSource::Magnet(magnet) => return Ok(TorrentSource::Magnet(magnet.clone())),
            GetSource::TorrentFile(path) => (path.clone(), read(path).await?),
            GetSource::TorrentUrl(url) | GetSource::Web(url) => {
                (PathBuf::from(redacted(url)), self.fetch_torrent(url).await?)
            }
        };
        TorrentSource::from_torrent_file(&bytes)
            .map_err(|error| GetError::Setup(format!("{}: {error}", name.display())))
    }

    /// The .torrent itself, from its web server.
    async fn fetch_torrent(&self, url: &Url) -> Result<Vec<u8>, GetError> {
        let fault = |what: String| GetError::Source {
            url: redacted(url),
            what,
        };
        let opened = self.call.client.open(url, Wanted::default()).await;
        let mut reply = opened.map_err(|failure| match failure {
            SourceFailure::Final(error) => error,
            SourceFailure::Passing(reason, _) => fault(format!("does not deliver: {reason}")),
        })?;
        if reply.status != StatusCode::OK {
            return Err(fault("sends a part of the .torrent".to_owned()));
        }
        let mut bytes = Vec::new();
        loop {
            let part = reply.body.chunk().await;
            match part.map_err(|error| fault(root_cause(&error)))? {
                Some(part) if (bytes.len() + part.len()) as u64 > MAX_TORRENT_BYTES => {
                    return Err(fault(
                        "sends more than a .torrent may have, 24 MiB".to_owned(),
                    ));
                }
                Some(part) => bytes.extend_from_slice(&part),
                None => return Ok(bytes),
            }
        }
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, GetError> {
    let io = |error| GetError::io(path, error);
    let file = tokio::fs::File::open(path).await.map_err(io)?;
    let mut bytes = Vec::new();
    let mut file = file.take(MAX_TORRENT_BYTES + 1);
    file.read_to_end(&mut bytes).await.map_err(io)?;
    Ok(bytes)
}

fn named(source: &GetSource) -> String {
    match source {
        GetSource::Web(url) | GetSource::TorrentUrl(url) => redacted(url),
        GetSource::TorrentFile(path) => path.display().to_string(),
        GetSource::Magnet(magnet) => format!("magnet:?xt=urn:btih:{}", magnet.info_hash()),
    }
}
