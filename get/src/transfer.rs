//! One file from its beginning to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flotilla_client::{DaemonClient, Node, SwarmHandle};
use flotilla_cluster::content_url;
use flotilla_cluster::redacted;
use flotilla_torrents::Digest;
use tokio::time::Instant;
use url::Url;

use super::call::Call;
use super::error::GetError;
use super::events::{GetEvent, Observer, Reporter, Way};
use super::from_daemon::FromDaemon;
use super::from_swarm::{FromSwarm, SwarmFailure};
use super::stop::Stop;
use super::torrent::FromTorrent;
use super::{GetFile, GetSource, Seeding};
use crate::files::part_file::PartFile;
use crate::files::publish::{Publication, Published, publish};
use crate::http::from_source::FromSource;

/// How often a seeding swarm is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// One file on its way.
pub(crate) struct Transfer<'a> {
    call: &'a Call,
    file: &'a GetFile,
    /// Where its parts are.
    dir: PathBuf,
    reporter: Reporter,
    stop: Stop,
}

/// A complete file that seeds.
pub(crate) struct Seed {
    swarm: SwarmHandle,
    seeding: Seeding,
    since: Instant,
}

impl Seed {
    /// Waits until it has seeded for long enough, or given enough.
    pub(crate) async fn until_done(&self) {
        let over = async {
            match self.seeding.time {
                Some(time) => tokio::time::sleep_until(self.since + time).await,
                None => std::future::pending().await,
            }
        };
        let enough = async {
            while !self.has_given_enough() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::select! {
            () = over => {}
            () = enough => {}
        }
    }

    fn has_given_enough(&self) -> bool {
        let Some(ratio) = self.seeding.ratio else {
            return false;
        };
        let uploaded = self.swarm.counters().uploaded.load(Ordering::Relaxed);
        let length = self.swarm.geometry().length();
        // Both far below 2^53: no file has 8 PiB.
        #[allow(clippy::cast_precision_loss)]
        let given = uploaded as f64 / length.max(1) as f64;
        given >= ratio
    }
}

/// The SHA-256 that all bytes of the layer were compared with, unless they were written since.
fn compared_digest(swarm: &SwarmHandle) -> Option<Digest> {
    let layer = swarm.layer();
    layer.sealed().filter(|_| layer.is_untouched())
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(
        call: &'a Call,
        file: &'a GetFile,
        dir: PathBuf,
        observer: &Observer,
    ) -> Self {
        Self {
            call,
            file,
            dir,
            reporter: Reporter::new(&file.output, Arc::clone(observer)),
            stop: Stop::new(call.shutdown.clone(), call.options.timeout),
        }
    }

    /// Gets the file; returns what keeps seeding.
    pub(crate) async fn run(self) -> Result<Option<Seed>, GetError> {
        let got = match &self.file.source {
            GetSource::Web(url) => self.web(url).await,
            // The futures of a swarm are large: not on the stack of every poll.
            source => Box::pin(self.torrent(source)).await.map(|()| None),
        };
        if let Err(error) = &got {
            self.reporter.tell(&GetEvent::Failed {
                error: error.to_string(),
            });
        }
        got
    }

    /// Gets a torrent, by its trackers and peers; returns when it has seeded.
    async fn torrent(&self, source: &GetSource) -> Result<(), GetError> {
        let torrent = FromTorrent {
            call: self.call,
            file: self.file,
            reporter: &self.reporter,
            stop: &self.stop,
        };
        torrent.fetch(source).await
    }

    async fn web(&self, url: &Url) -> Result<Option<Seed>, GetError> {
        let source = self.at_source(url);
        let left_over = source.left_over().await;
        let way = self.choose_way(left_over.as_deref());
        let mut has_begun = false;
        if let (Way::Daemon, Some(daemon)) = (way, &self.call.options.daemon) {
            let content = self.at_daemon(daemon, url);
            let fetched = self.stop.or(Box::pin(content.fetch())).await?;
            let reason = match fetched {
                Ok(fetched) => {
                    // The daemon keeps its file until here.
                    let published = self.publish(&fetched.layer().path, None, true).await?;
                    self.completed(&published);
                    self.clear().await;
                    return Ok(None);
                }
                Err(SwarmFailure::Final(error)) => return Err(error),
                Err(SwarmFailure::Switch(reason, _)) => reason,
            };
            tracing::info!(reason, "daemon does not deliver");
            if self.call.node.is_none() && !self.call.options.fallback {
                return Err(GetError::Swarm(reason));
            }
            has_begun = content.has_begun.into_inner();
            if has_begun {
                self.reporter
                    .tell(&GetEvent::SourceSwitch { reason, bytes: 0 });
            }
        }
        let way = match (way, &self.call.node) {
            (Way::Daemon, Some(_)) => Way::Swarm,
            (Way::Daemon, None) => Way::Source,
            (way, _) => way,
        };
        if !has_begun {
            self.reporter.tell(&GetEvent::Started {
                url: redacted(url),
                way,
            });
        }
        if let (Way::Swarm, Some(node)) = (way, &self.call.node) {
            let swarm = self.in_swarm(node, url);
            match self.stop.or(Box::pin(swarm.fetch())).await? {
                Ok(got) => return self.finish_swarm(node, &got.path, got.swarm).await,
                Err(SwarmFailure::Final(error)) => return Err(error),
                Err(SwarmFailure::Switch(reason, _)) if !self.call.options.fallback => {
                    return Err(GetError::Swarm(reason));
                }
                Err(SwarmFailure::Switch(reason, part)) => {
                    tracing::info!(reason, "swarm does not deliver, continuing from the source");
                    self.reporter.tell(&GetEvent::SourceSwitch {
                        reason,
                        bytes: part.as_ref().map_or(0, |part| part.held()),
                    });
                    return self.finish_source(&source, part).await;
                }
            }
        }
        if let Some(part) = &left_over
            && part.held() > 0
        {
            self.reporter
                .tell(&GetEvent::Resumed { bytes: part.held() });
        }
        self.finish_source(&source, left_over).await
    }

    /// The way that the bytes come at first. A file that has begun to come straight from its
    /// source continues so: nothing is fetched twice.
    fn choose_way(&self, left_over: Option<&PartFile>) -> Way {
        let has_begun = left_over.is_some_and(|part| part.held() > 0);
        let goes_on = has_begun && self.file.range.is_none() && self.call.options.fallback;
        match (&self.call.options.daemon, &self.call.node) {
            _ if goes_on => Way::Source,
            // It has whole files only.
            (Some(_), _) if self.file.range.is_none() => Way::Daemon,
            (_, Some(_)) => Way::Swarm,
            _ => Way::Source,
        }
    }

    async fn finish_swarm(
        &self,
        node: &Node,
        path: &Path,
        swarm: Option<SwarmHandle>,
    ) -> Result<Option<Seed>, GetError> {
        let published = self
            .publish(path, swarm.as_ref().and_then(compared_digest), false)
            .await;
        if matches!(published, Err(GetError::Digest { .. })) {
            self.remove_content(node, swarm.as_ref());
            self.clear().await;
        }
        let published = published?;
        self.completed(&published);
        self.clear().await;
        let seeding = self.call.options.seeding;
        match swarm {
            Some(swarm) if seeding.time.is_some() || seeding.ratio.is_some() => {
                self.reporter.tell(&GetEvent::Seeding {
                    seconds: seeding.time.map(|time| time.as_secs_f64()),
                });
                Ok(Some(Seed {
                    swarm,
                    seeding,
                    since: Instant::now(),
                }))
            }
            swarm => {
                // The pieces of a call's own directory go with it, file by file.
                if self.call.options.is_data_dir_own {
                    self.remove_content(node, swarm.as_ref());
                }
                Ok(None)
            }
        }
    }

    fn remove_content(&self, node: &Node, swarm: Option<&SwarmHandle>) {
        let Some(swarm) = swarm else { return };
        let engine = node.engine().clone();
        engine.leave(&swarm.swarm());
        let content = swarm.content().clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = engine.store().remove_used(&content) {
                tracing::warn!(%error, %content, "content not removed");
            }
        });
    }

    async fn finish_source(
        &self,
        source: &FromSource<'_>,
        part: Option<Arc<PartFile>>,
    ) -> Result<Option<Seed>, GetError> {
        let (part, was_put_together) = source.fetch(part).await?;
        let mut published = self.publish(&part.path(), None, false).await;
        if was_put_together && matches!(published, Err(GetError::Digest { .. })) {
            self.reporter
                .restarted("the parts do not add up to the digest");
            let (part, _) = source.fetch(None).await?;
            published = self.publish(&part.path(), None, false).await;
        }
        if matches!(published, Ok(_) | Err(GetError::Digest { .. })) {
            self.clear().await;
        }
        self.completed(&published?);
        Ok(None)
    }

    async fn publish(
        &self,
        part: &Path,
        sha256: Option<Digest>,
        is_cached: bool,
    ) -> Result<Published, GetError> {
        let part = part.to_owned();
        let file = self.file.clone();
        let wants_digest = self.call.options.tells_digest;
        let published = tokio::task::spawn_blocking(move || {
            publish(Publication {
                part: &part,
                output: &file.output,
                below: file.below.as_deref(),
                expected: file.digest.as_ref(),
                sha256,
                wants_digest,
                is_cached,
            })
        });
        published
            .await
            .map_err(|error| GetError::Setup(error.to_string()))?
    }

    fn completed(&self, published: &Published) {
        let digest = published.sha256.as_ref().map(ToString::to_string);
        self.reporter.completed(published.bytes, digest);
    }

    /// Removes what is not needed any more.
    async fn clear(&self) {
        if let Err(error) = tokio::fs::remove_dir_all(&self.dir).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.dir.display(), "work directory not removed");
        }
    }

    /// Names the content and the range of it in records.
    fn name(&self, url: &Url) -> String {
        use sha2::Digest as _;
        let content = content_url(url, &self.file.filter_query);
        let range = self.file.range.map(|range| range.to_string());
        let text = format!("{content}\n{}", range.unwrap_or_default());
        // Not the text itself: queries hold signatures.
        data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(text))
    }

    fn at_daemon(&'a self, daemon: &'a DaemonClient, url: &'a Url) -> FromDaemon<'a> {
        FromDaemon {
            daemon,
            client: &self.call.client,
            url,
            filter_query: &self.file.filter_query,
            digest: self.file.digest.as_ref(),
            reporter: &self.reporter,
            has_begun: AtomicBool::new(false),
        }
    }

    fn at_source(&'a self, url: &'a Url) -> FromSource<'a> {
        FromSource {
            client: &self.call.client,
            url,
            name: self.name(url),
            range: self.file.range,
            dir: self.dir.clone(),
            limit: self.call.limit.clone(),
            min_rate: self.call.options.min_rate,
            is_checked: self.file.digest.is_some(),
            reporter: &self.reporter,
            stop: &self.stop,
        }
    }

    fn in_swarm(&'a self, node: &'a Node, url: &'a Url) -> FromSwarm<'a> {
        FromSwarm {
            node,
            client: &self.call.client,
            url,
            filter_query: &self.file.filter_query,
            name: self.name(url),
            range: self.file.range,
            dir: self.dir.clone(),
            min_rate: self.call.options.min_rate,
            are_named: self.call.options.are_supernodes_named,
            reporter: &self.reporter,
        }
    }
}
