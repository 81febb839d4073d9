//! Through the swarm of the supernodes.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flotilla_client::ByteRange;
use flotilla_client::{ContentRequest, Layer, Node, OpenError, SwarmHandle, SwarmState};
use flotilla_cluster::SupernodeError;
use flotilla_cluster::redacted;
use flotilla_torrents::ContentId;
use futures_util::{StreamExt as _, TryStreamExt as _};
use url::Url;

use super::error::GetError;
use super::events::{GetEvent, Reporter};
use crate::files::part_file::{PartContent, PartFile};
use crate::http::min_rate::{MinRate, RateWatch};
use crate::http::source_client::SourceClient;
use crate::http::validator::Validator;

/// How often the swarm is looked at while it says nothing.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes copied at a time from the swarm's pieces.
const COPY: usize = 1024 * 1024;
/// Names the content that the pieces in the data directory are of.
const CONTENT: &str = "swarm";

/// One content in the swarm.
pub(crate) struct FromSwarm<'a> {
    pub(crate) node: &'a Node,
    pub(crate) client: &'a SourceClient,
    pub(crate) url: &'a Url,
    pub(crate) filter_query: &'a [String],
    /// Names the content and the range in the record.
    pub(crate) name: String,
    pub(crate) range: Option<ByteRange>,
    pub(crate) dir: PathBuf,
    pub(crate) min_rate: Option<MinRate>,
    /// Whether supernodes that cannot be reached are the caller's mistake.
    pub(crate) are_named: bool,
    pub(crate) reporter: &'a Reporter,
}

/// What the swarm brought.
#[derive(Debug)]
pub(crate) struct FromSwarmFile {
    pub(crate) path: PathBuf,
    /// What keeps seeding.
    pub(crate) swarm: Option<SwarmHandle>,
}

/// Why the swarm does not bring it.
#[derive(Debug)]
pub(crate) enum SwarmFailure {
    /// The source may; what has arrived so far is kept.
    Switch(String, Option<Arc<PartFile>>),
    Final(GetError),
}

impl From<GetError> for SwarmFailure {
    fn from(error: GetError) -> Self {
        Self::Final(error)
    }
}

impl FromSwarm<'_> {
    /// Brings the whole, or the range.
    pub(crate) async fn fetch(&self) -> Result<FromSwarmFile, SwarmFailure> {
        let layer = self.open().await?;
        self.note_content(&layer).await?;
        let outcome = match self.range {
            None => self.whole(&layer).await,
            Some(range) => self.range(&layer, range).await,
        };
        match outcome {
            Ok(file) => Ok(file),
            Err(SwarmFailure::Switch(reason, None)) => {
                let part = self.keep(&layer).await?;
                Err(SwarmFailure::Switch(reason, part))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn open(&self) -> Result<Layer, SwarmFailure> {
        let (url, headers) = self.client.as_request(self.url);
        let request = ContentRequest {
            url,
            headers,
            // The digest is checked at the end; the swarm is named by URL and validator.
            digest: None,
            filter_query: self.filter_query.to_vec(),
        };
        let switch = |reason: String| Err(SwarmFailure::Switch(reason, None));
        match self.node.open(request).await {
            Ok(layer) => Ok(layer),
            Err(OpenError::Unswarmable(reason)) => switch(reason),
            Err(OpenError::Refused { status, .. }) => Err(GetError::Refused {
                url: redacted(self.url),
                status,
                reason: reqwest::StatusCode::from_u16(status)
                    .ok()
                    .and_then(|status| status.canonical_reason())
                    .unwrap_or_default(),
            }
            .into()),
            Err(
                error @ OpenError::Supernode(
                    SupernodeError::Unreachable { .. } | SupernodeError::NoneHealthy(_),
                ),
            ) if self.are_named => Err(GetError::Supernodes(error.to_string()).into()),
            Err(error) => switch(error.to_string()),
        }
    }

    /// Says what of an earlier run counts, and forgets what does not.
    async fn note_content(&self, layer: &Layer) -> Result<(), GetError> {
        let Some(swarm) = layer.swarm() else {
            return Ok(());
        };
        let path = self.dir.join(CONTENT);
        let content = swarm.content().clone();
        let store = self.node.engine().clone();
        let noted = tokio::task::spawn_blocking(move || {
            let before = fs::read_to_string(&path).ok();
            let before = before.and_then(|text| text.parse::<ContentId>().ok());
            let outdated = before.filter(|before| *before != content);
            if let Some(outdated) = &outdated
                && let Err(error) = store.store().remove_used(outdated)
            {
                tracing::warn!(%error, content = %outdated, "outdated content not removed");
            }
            fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))
                .and_then(|()| fs::write(&path, content.as_str()))
                .map_err(|error| GetError::io(&path, error))
                .map(|()| outdated.is_some())
        });
        let changed = noted
            .await
            .map_err(|error| GetError::Setup(error.to_string()))??;
        let held = swarm.held_bytes();
        if changed {
            self.reporter
                .restarted("the content at the source has changed");
        } else if held > 0 {
            self.reporter.tell(&GetEvent::Resumed { bytes: held });
        }
        Ok(())
    }

    async fn whole(&self, layer: &Layer) -> Result<FromSwarmFile, SwarmFailure> {
        let Some(swarm) = layer.swarm() else {
            return Ok(self.small(layer, 0..layer.length()).await?);
        };
        let mut completed = std::pin::pin!(layer.completed());
        let mut status = swarm.watch();
        let mut watch = self.rate_watch(swarm);
        let switch = |reason: String| SwarmFailure::Switch(reason, None);
        loop {
            tokio::select! {
                completed = &mut completed => {
                    completed.map_err(switch)?;
                    self.tell_progress(swarm, layer.length(), layer.length());
                    return Ok(FromSwarmFile {
                        path: swarm.layer().data_path(),
                        swarm: Some(swarm.clone()),
                    });
                }
                changed = status.changed() => {
                    if changed.is_err() {
                        return Err(switch("the node stops".to_owned()));
                    }
                    status.borrow_and_update();
                }
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            self.tell_progress(swarm, swarm.held_bytes(), layer.length());
            if let Some(reason) = swarm.stalled() {
                return Err(switch(reason.to_owned()));
            }
            self.check_rate(swarm, &mut watch)?;
        }
    }

    /// The range alone, in order; the swarm hurries with the pieces that hold it.
    async fn range(&self, layer: &Layer, range: ByteRange) -> Result<FromSwarmFile, SwarmFailure> {
        let length = layer.length();
        let bytes = range.of(length).ok_or_else(|| GetError::Range {
            url: redacted(self.url),
            range,
            length: Some(length),
        })?;
        let Some(swarm) = layer.swarm() else {
            return Ok(self.small(layer, bytes).await?);
        };
        let part = self.part(layer, bytes.clone()).await?;
        let mut reader = layer.read(bytes.clone());
        let mut watch = self.rate_watch(swarm);
        let mut position = bytes.start;
        let wanted = bytes.end - bytes.start;
        while position < bytes.end {
            let came = tokio::select! {
                came = reader.next() => came,
                () = tokio::time::sleep(POLL_INTERVAL) => {
                    self.check_rate(swarm, &mut watch)
                        .map_err(|failure| with_part(failure, &part))?;
                    continue;
                }
            };
            let came = match came {
                Some(Ok(came)) => came,
                Some(Err(error)) => {
                    return Err(SwarmFailure::Switch(error.to_string(), Some(part)));
                }
                None => {
                    return Err(SwarmFailure::Switch(
                        "it ended early".to_owned(),
                        Some(part),
                    ));
                }
            };
            let count = came.len() as u64;
            let written = Arc::clone(&part);
            blocking(&part.path(), move || written.write(position, &came)).await?;
            position += count;
            self.tell_progress(swarm, position - bytes.start, wanted);
        }
        let synced = Arc::clone(&part);
        blocking(&part.path(), move || synced.sync()).await?;
        Ok(FromSwarmFile {
            path: part.path(),
            swarm: None,
        })
    }

    /// Small content is in memory already.
    async fn small(&self, layer: &Layer, bytes: Range<u64>) -> Result<FromSwarmFile, GetError> {
        let parts: Vec<_> = match layer.read(bytes).try_collect().await {
            Ok(parts) => parts,
            Err(error) => return Err(GetError::Swarm(error.to_string())),
        };
        let path = self.dir.join("small");
        let dir = self.dir.clone();
        let to = path.clone();
        blocking(&path, move || {
            fs::create_dir_all(dir)?;
            fs::write(to, parts.concat())
        })
        .await?;
        Ok(FromSwarmFile { path, swarm: None })
    }

    /// What the swarm has brought, as a part file that the source can complete. Nothing of a void
    /// swarm: its pieces may contradict each other.
    async fn keep(&self, layer: &Layer) -> Result<Option<Arc<PartFile>>, GetError> {
        let Some(swarm) = layer.swarm() else {
            return Ok(None);
        };
        if matches!(swarm.status().state, SwarmState::Void(_)) {
            return Ok(None);
        }
        self.node.engine().leave(&swarm.swarm());
        let part = self.part(layer, 0..layer.length()).await?;
        let (to, stored) = (Arc::clone(&part), Arc::clone(swarm.layer()));
        blocking(&part.path(), move || {
            let geometry = stored.geometry();
            let held = stored.held();
            for piece in geometry.pieces().filter(|piece| held.has(*piece)) {
                let range = geometry.piece_range(piece);
                let mut position = range.start;
                while position < range.end && !to.has(&range) {
                    let count = usize::try_from(range.end - position)
                        .unwrap_or(COPY)
                        .min(COPY);
                    to.write(position, &stored.read(position, count)?)?;
                    position += count as u64;
                }
            }
            to.sync()
        })
        .await?;
        Ok(Some(part))
    }

    /// The part file of this content and range, an earlier run's if it still counts.
    async fn part(&self, layer: &Layer, bytes: Range<u64>) -> Result<Arc<PartFile>, GetError> {
        let content = PartContent {
            name: self.name.clone(),
            validator: Validator::of_swarm(layer.validator().unwrap_or_default()),
            start: bytes.start,
            end: Some(bytes.end),
            total: Some(layer.length()),
        };
        let dir = self.dir.clone();
        let part = blocking(&self.dir, move || {
            let left_over = PartFile::open(&dir, &content.name).filter(|part| {
                let old = part.content();
                old.total == content.total && old.validator.agrees_with(&content.validator)
            });
            match left_over {
                Some(part) => Ok(part),
                None => PartFile::create(&dir, content),
            }
        });
        Ok(Arc::new(part.await?))
    }

    fn rate_watch(&self, swarm: &SwarmHandle) -> RateWatch {
        RateWatch::new(self.min_rate, received(swarm))
    }

    fn check_rate(&self, swarm: &SwarmHandle, watch: &mut RateWatch) -> Result<(), SwarmFailure> {
        match watch.too_slow(received(swarm)) {
            Some(rate) if !swarm.layer().held().is_full() => Err(SwarmFailure::Switch(
                format!("the swarm delivers {rate} bytes/s, less than --min-rate"),
                None,
            )),
            _ => Ok(()),
        }
    }

    fn tell_progress(&self, swarm: &SwarmHandle, bytes: u64, length: u64) {
        let counters = swarm.counters();
        let from_supernodes = counters.from_supernodes.load(Ordering::Relaxed);
        let arrived = received(swarm);
        self.reporter
            .set_from_swarm(arrived, arrived.saturating_sub(from_supernodes));
        let peers = swarm.status().peers;
        self.reporter.progress(bytes, Some(length), peers);
    }
}

fn with_part(failure: SwarmFailure, part: &Arc<PartFile>) -> SwarmFailure {
    match failure {
        SwarmFailure::Switch(reason, None) => SwarmFailure::Switch(reason, Some(Arc::clone(part))),
        failure => failure,
    }
}

fn received(swarm: &SwarmHandle) -> u64 {
    swarm.counters().received.load(Ordering::Relaxed)
}

async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, GetError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other)
        .and_then(|done| done)
        .map_err(|error| GetError::io(path, error))
}
