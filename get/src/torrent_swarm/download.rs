//! A torrent, into files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flotilla_client::peers::metadata_exchange;
use flotilla_client::peers::web_seed::{WebSeed, WebSeedError};
use flotilla_client::store::private_dir;
use flotilla_client::torrent_files;
use flotilla_client::torrent_files::path_filter::PathFilter;
use flotilla_client::torrent_files::{FileSelection, NothingSelectedError, TorrentStorage, Watch};
use flotilla_client::{RunningSwarm, SwarmState};
use flotilla_torrents::{InfoHash, Magnet, MagnetError, Metainfo, MetainfoError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{POLL_INTERVAL, Participation, ParticipationError, SwarmOptions, stay};

/// Which torrent.
#[derive(Clone, Debug)]
pub enum TorrentSource {
    /// A .torrent file.
    Metainfo(Box<Metainfo>),
    /// A magnet link; the metainfo comes from the peers.
    Magnet(Magnet),
}

impl TorrentSource {
    /// Reads a .torrent file.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn from_torrent_file(bytes: &[u8]) -> Result<Self, MetainfoError> {
        Ok(Self::Metainfo(Box::new(Metainfo::from_bytes(bytes)?)))
    }

    /// The torrent's info hash.
    pub fn info_hash(&self) -> InfoHash {
        match self {
            Self::Metainfo(torrent) => torrent.info_hash(),
            Self::Magnet(magnet) => magnet.info_hash(),
        }
    }
}

/// A magnet link.
impl FromStr for TorrentSource {
    type Err = MagnetError;

    fn from_str(text: &str) -> Result<Self, MagnetError> {
        text.parse().map(Self::Magnet)
    }
}

/// Where the content is to appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// At this path, whatever the torrent's name is.
    At(PathBuf),
    /// In this directory, under the torrent's name.
    In(PathBuf),
}

/// What to download, and how.
#[derive(Clone, Debug)]
pub struct DownloadOptions {
    /// Which torrent.
    pub source: TorrentSource,
    /// Which of its files, by their paths below the torrent's directory; the others never appear. The
    /// pieces that selected files share with others are fetched and served.
    pub filter: PathFilter,
    /// Where it appears, whole and verified, or not at all. Until then it is in a hidden directory
    /// beside that, where the next run of the same files continues.
    pub output: Output,
    /// How to take part.
    pub swarm: SwarmOptions,
    /// Give up when nothing has come for this long; none: never.
    pub patience: Option<Duration>,
    /// How long to go on seeding after completion; it ends with the time or with the ratio.
    pub seed_for: Option<Duration>,
    /// Sent bytes, as a share of the length, after which the seeding ends.
    pub seed_ratio: Option<f64>,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// Bytes of the selected files; 0 while there is no metainfo.
    pub length: u64,
    /// Those of them that are here and verified.
    pub held: u64,
    /// Peers connected, web seeds included.
    pub peers: usize,
}

/// What a download does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Asks peers for the metainfo of a magnet link.
    #[default]
    Metadata,
    /// Compares what an earlier run has left.
    Comparing,
    /// Fetches pieces.
    Fetching,
    /// Everything is here and at its place; others are served.
    Seeding,
}

/// What a download came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// Where the content is.
    pub path: PathBuf,
    /// The torrent.
    pub info_hash: InfoHash,
    /// Bytes of the selected files.
    pub length: u64,
    /// Verified bytes that this run has fetched, with what shares pieces with the selected files.
    pub fetched: u64,
    /// Bytes that this run has sent.
    pub uploaded: u64,
}

/// Why there is nothing at the output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// Neither peers, nor trackers, nor web seeds.
    #[error("no peer to ask: the torrent names no tracker and no web seed, and no peer was given")]
    NoPeerToAsk,
    /// The metainfo that the magnet link names is refused.
    #[error("the torrent is refused: {0}")]
    Metainfo(#[from] MetainfoError),
    /// None of the files is selected.
    #[error(transparent)]
    NothingSelected(#[from] NothingSelectedError),
    /// The output names nothing that could appear.
    #[error("{0} names no file or directory")]
    Output(PathBuf),
    /// Something is in the way.
    #[error("{0} exists; move it away, or choose another output")]
    Exists(PathBuf),
    /// The disk refused.
    #[error("{path}: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another run has the same output.
    #[error("{0} is in use by another flotilla with the same output")]
    InUse(PathBuf),
    /// A web seed that was given cannot be one.
    #[error("web seed: {0}")]
    WebSeed(#[from] WebSeedError),
    /// The swarm cannot be taken part in.
    #[error(transparent)]
    Participation(#[from] ParticipationError),
    /// Nothing has come for too long.
    #[error("no data for {}s: {reason}", .patience.as_secs())]
    Stalled {
        /// How long it was waited for.
        patience: Duration,
        /// What is known of the cause.
        reason: String,
    },
    /// The swarm has ended.
    #[error("{0}")]
    Void(String),
    /// The caller stopped it.
    #[error("interrupted; run the same command again to continue")]
    Stopped,
}

/// Downloads a torrent. Returns when it is at its place and was seeded as asked.
///
/// # Errors
/// It could not be had; nothing is at the output. What is verified is kept for the next run with
/// the same output. After completion, `shutdown` ends the seeding and is no error.
pub async fn download(
    options: DownloadOptions,
    progress: &watch::Sender<Progress>,
    shutdown: CancellationToken,
) -> Result<Downloaded, DownloadError> {
    let (tiers, peers, web_seeds) = match &options.source {
        TorrentSource::Metainfo(torrent) => (
            torrent.announce().to_vec(),
            &[][..],
            torrent.url_list().to_vec(),
        ),
        // One tier: the link has no order among them.
        TorrentSource::Magnet(magnet) => (
            vec![magnet.trackers().to_vec()],
            magnet.peers(),
            magnet.web_seeds().to_vec(),
        ),
    };
    let tiers = [tiers, options.swarm.trackers.clone()].concat();
    let web_seeds = [web_seeds, options.swarm.web_seeds.clone()].concat();
    let unnamed = peers.is_empty() && options.swarm.peers.is_empty();
    let needs_peer = matches!(options.source, TorrentSource::Magnet(_)) || web_seeds.is_empty();
    if unnamed && tiers.iter().all(Vec::is_empty) && needs_peer {
        return Err(DownloadError::NoPeerToAsk);
    }
    let info_hash = options.source.info_hash();
    let has_metainfo = matches!(options.source, TorrentSource::Metainfo(_));
    let participation =
        Participation::begin(&options.swarm, info_hash, tiers, peers, has_metainfo).await?;
    let download = Download {
        options: &options,
        participation: &participation,
        progress,
        shutdown: &shutdown,
    };
    let outcome = download.run(&web_seeds).await;
    participation.end().await;
    let (swarm, files, path) = outcome?;
    Ok(Downloaded {
        path,
        info_hash,
        length: files.selected_length(),
        fetched: swarm.counters().downloaded.load(Ordering::Relaxed),
        uploaded: swarm.counters().uploaded.load(Ordering::Relaxed),
    })
}

struct Download<'a> {
    options: &'a DownloadOptions,
    participation: &'a Participation,
    progress: &'a watch::Sender<Progress>,
    shutdown: &'a CancellationToken,
}

impl Download<'_> {
    async fn run(
        &self,
        web_seeds: &[String],
    ) -> Result<(RunningSwarm, Arc<TorrentStorage>, PathBuf), DownloadError> {
        let torrent = self.metainfo().await?;
        let selection = FileSelection::new(&torrent, &self.options.filter)?;
        let place = Place::prepare(&self.options.output, &torrent, &selection)?;
        let files = Arc::new(self.storage(&torrent, selection, &place).await?);
        let swarm = self.participation.engine.join_torrent(Arc::clone(&files));
        for address in web_seeds {
            match WebSeed::new(Arc::clone(&torrent), address) {
                Ok(web_seed) => swarm.add_web_seed(web_seed).await,
                // Torrents list ftp too: only a web seed that the caller named is an error.
                Err(error) if self.options.swarm.web_seeds.contains(address) => {
                    return Err(error.into());
                }
                Err(error) => tracing::warn!(%error, "web seed left out"),
            }
        }
        self.participation.run(&swarm);
        self.completed(&swarm, &files).await?;
        let path = place.path.clone();
        files.note_published();
        let published = tokio::task::spawn_blocking(move || place.publish()).await;
        match published {
            Ok(published) => published?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
        self.report(Phase::Seeding, &swarm, &files);
        let ratio = self.options.seed_ratio;
        let length = files.selected_length();
        let stay = stay(&swarm, length, self.options.seed_for, ratio);
        self.shutdown.run_until_cancelled(stay).await;
        Ok((swarm, files, path))
    }

    async fn metainfo(&self) -> Result<Arc<Metainfo>, DownloadError> {
        let magnet = match &self.options.source {
            TorrentSource::Metainfo(torrent) => return Ok(Arc::new((**torrent).clone())),
            TorrentSource::Magnet(magnet) => magnet,
        };
        let engine = &self.participation.engine;
        let fetch = metadata_exchange::fetch(
            magnet.info_hash(),
            engine.peer_id(),
            engine.listen_addr().port(),
            self.participation.known.subscribe(),
        );
        let patience = self.options.patience;
        let fetch = async {
            match patience {
                Some(patience) => tokio::time::timeout(patience, fetch).await.map_err(|_| {
                    self.stalled(patience, "no peer has the metainfo of the magnet link")
                }),
                None => Ok(fetch.await),
            }
        };
        let fetched = self.shutdown.run_until_cancelled(fetch).await;
        Ok(Arc::new(fetched.ok_or(DownloadError::Stopped)???))
    }

    async fn storage(
        &self,
        torrent: &Arc<Metainfo>,
        selection: FileSelection,
        place: &Place,
    ) -> Result<TorrentStorage, DownloadError> {
        self.progress.send_modify(|progress| {
            progress.phase = Phase::Comparing;
            progress.length = selection.length();
        });
        let (torrent, work) = (Arc::clone(torrent), place.torrent_dir.clone());
        let stop = self.shutdown.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let watch = Watch {
                advanced: &|_| (),
                stop: &stop,
            };
            let opened = TorrentStorage::arriving(torrent, selection, &work, watch);
            opened.map_err(|source| match source.kind() {
                io::ErrorKind::Interrupted => DownloadError::Stopped,
                _ => DownloadError::Disk { path: work, source },
            })
        });
        match opened.await {
            Ok(opened) => opened,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Waits for all that is wanted.
    async fn completed(
        &self,
        swarm: &RunningSwarm,
        files: &TorrentStorage,
    ) -> Result<(), DownloadError> {
        let mut status = swarm.watch();
        loop {
            let now = status.borrow_and_update().clone();
            if let SwarmState::Void(reason) = now.state {
                return Err(DownloadError::Void(reason));
            }
            self.report(Phase::Fetching, swarm, files);
            if now.complete {
                return Ok(());
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return Err(DownloadError::Stopped),
                changed = status.changed() => {
                    if changed.is_err() {
                        return Err(DownloadError::Void("the swarm has ended".to_owned()));
                    }
                }
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            if let Some(patience) = self.options.patience
                && swarm.idle_for() > patience
            {
                return Err(self.stalled(patience, "no peer brings pieces"));
            }
        }
    }

    fn stalled(&self, patience: Duration, otherwise: &str) -> DownloadError {
        let trouble = self.participation.trouble.borrow().clone();
        DownloadError::Stalled {
            patience,
            reason: trouble.unwrap_or_else(|| otherwise.to_owned()),
        }
    }

    fn report(&self, phase: Phase, swarm: &RunningSwarm, files: &TorrentStorage) {
        let now = Progress {
            phase,
            length: files.selected_length(),
            held: files.selected_bytes(),
            peers: swarm.status().peers,
        };
        self.progress
            .send_if_modified(|progress| std::mem::replace(progress, now) != now);
    }
}

/// Locked while the work directory is in use.
const LOCK_FILE: &str = "lock";

/// Where the content will be, and where it is until then.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Hidden, beside `path`.
    work_dir: PathBuf,
    /// In it, that of this torrent and these files of it.
    torrent_dir: PathBuf,
    /// Locked while it is worked in.
    lock: File,
}

impl Place {
    fn prepare(
        output: &Output,
        torrent: &Metainfo,
        selection: &FileSelection,
    ) -> Result<Self, DownloadError> {
        let path = match output {
            Output::At(path) => path.clone(),
            Output::In(directory) => directory.join(torrent.name()),
        };
        let Some(name) = path.file_name() else {
            return Err(DownloadError::Output(path));
        };
        // A file gives way to a file, as `get` has it; nothing else gives way.
        match fs::symlink_metadata(&path) {
            Ok(found) if torrent.is_directory() || !(found.is_file() || found.is_symlink()) => {
                return Err(DownloadError::Exists(path));
            }
            _ => {}
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".flotilla");
        let work_dir = path.with_file_name(hidden);
        let disk = |path: &Path, source| DownloadError::Disk {
            path: path.to_owned(),
            source,
        };
        let claimed = private_dir::claim(&work_dir, LOCK_FILE);
        let Some(lock) = claimed.map_err(|error| disk(&work_dir, error))? else {
            return Err(DownloadError::InUse(work_dir));
        };
        let mut own = torrent.info_hash().to_string();
        if let Some(selected) = selection.name() {
            own = format!("{own}-{selected}");
        }
        Ok(Self {
            torrent_dir: work_dir.join(own),
            path,
            work_dir,
            lock,
        })
    }

    fn publish(self) -> Result<(), DownloadError> {
        torrent_files::publish(&self.torrent_dir, &self.path).map_err(|source| {
            DownloadError::Disk {
                path: self.path.clone(),
                source,
            }
        })?;
        if let Err(error) = private_dir::remove(&self.work_dir, LOCK_FILE, self.lock) {
            tracing::warn!(%error, path = %self.work_dir.display(), "work directory of a torrent not removed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(output: &Output, torrent: &Metainfo) -> Result<Place, DownloadError> {
        Place::prepare(output, torrent, &FileSelection::all(torrent))
    }

    #[test]
    fn a_directory_in_the_way_is_found_before_anything_is_fetched() {
        let scratch = tempfile::tempdir().unwrap();
        let geometry = flotilla_torrents::Geometry::new(1, 1 << 14).unwrap();
        let hash = flotilla_torrents::PieceHash::of(b"x");
        let torrent = Metainfo::new("name", geometry, vec![hash], false, &[], &[]).unwrap();
        fs::create_dir(scratch.path().join("name")).unwrap();
        let refused = prepared(&Output::In(scratch.path().to_owned()), &torrent);
        assert!(matches!(refused, Err(DownloadError::Exists(_))));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_runs_do_not_write_into_one_output() {
        let scratch = tempfile::tempdir().unwrap();
        let geometry = flotilla_torrents::Geometry::new(1, 1 << 14).unwrap();
        let hash = flotilla_torrents::PieceHash::of(b"x");
        let torrent = Metainfo::new("name", geometry, vec![hash], false, &[], &[]).unwrap();
        let output = Output::In(scratch.path().to_owned());
        let first = prepared(&output, &torrent).unwrap();
        let second = prepared(&output, &torrent);
        assert!(matches!(second, Err(DownloadError::InUse(_))));
        drop(first);
        assert!(prepared(&output, &torrent).is_ok());
    }
}
