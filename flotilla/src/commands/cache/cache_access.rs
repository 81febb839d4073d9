//! The cache of this machine: asked of a running daemon, or opened from its files.

use std::path::Path;

use anyhow::{Context as _, bail};
use flotilla_client::DaemonClient;
use flotilla_client::control::SOCKET;
use flotilla_client::control::cache::{Cache, CacheReport, Outcome};
use flotilla_client::control::client::ControlError;
use flotilla_client::store::{LayerAudit, StoreError};
use flotilla_torrents::ContentId;
use tokio_util::sync::CancellationToken;

/// The layers below a data directory.
pub(super) enum CacheAccess {
    Daemon(DaemonClient),
    Files(Cache),
}

impl CacheAccess {
    pub(super) async fn of(data_dir: &Path) -> anyhow::Result<Self> {
        match DaemonClient::connect(&data_dir.join(SOCKET)).await {
            Ok(daemon) => return Ok(Self::Daemon(daemon)),
            Err(ControlError::NotRunning(_)) => {}
            // No daemon can offer one with such a path.
            Err(ControlError::Socket { source, .. })
                if source.kind() == std::io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(error.into()),
        }
        if !data_dir.join("layers").is_dir() {
            bail!(
                "{} has no layers; name their directory with --data-dir, or their role with --role",
                data_dir.display()
            );
        }
        let dir = data_dir.to_owned();
        match tokio::task::spawn_blocking(move || Cache::open(&dir)).await? {
            Ok(cache) => Ok(Self::Files(cache)),
            Err(StoreError::InUse { path }) => bail!(
                "{} is in use, but its {SOCKET} does not answer: another `flotilla cache` may be running, or see the log of the proxy or supernode for why it has no control socket",
                path.display()
            ),
            Err(error) => Err(error).context("run this as the user that flotilla runs as"),
        }
    }

    pub(super) async fn layers(&self) -> anyhow::Result<CacheReport> {
        Ok(match self {
            Self::Daemon(daemon) => daemon.layers().await?,
            Self::Files(cache) => cache.report(),
        })
    }

    pub(super) async fn remove(&self, contents: &[ContentId]) -> anyhow::Result<Vec<Outcome>> {
        match self {
            Self::Daemon(daemon) => Ok(daemon.remove(contents).await?),
            Self::Files(cache) => each(cache, contents, Cache::remove).await,
        }
    }

    pub(super) async fn set_pinned(
        &self,
        contents: &[ContentId],
        pinned: bool,
    ) -> anyhow::Result<Vec<Outcome>> {
        match self {
            Self::Daemon(daemon) => Ok(daemon.pin(contents, pinned).await?),
            Self::Files(cache) => {
                let pin =
                    move |cache: &Cache, content: &ContentId| cache.set_pinned(content, pinned);
                each(cache, contents, pin).await
            }
        }
    }

    /// Calls `on_audit` for each; with an error for a damaged one that could not be removed.
    pub(super) async fn verify(
        &self,
        contents: &[ContentId],
        stop: &CancellationToken,
        mut on_audit: impl FnMut(Result<LayerAudit, (ContentId, String)>),
    ) -> anyhow::Result<()> {
        match self {
            Self::Daemon(daemon) => daemon.verify(contents, on_audit).await?,
            Self::Files(cache) => {
                for content in contents {
                    match cache.verify(content, stop).await {
                        Ok(Some(audit)) => on_audit(Ok(audit)),
                        Ok(None) => {}
                        Err(error) => on_audit(Err((content.clone(), error.to_string()))),
                    }
                }
            }
        }
        Ok(())
    }
}

async fn each(
    cache: &Cache,
    contents: &[ContentId],
    act: impl Fn(&Cache, &ContentId) -> Outcome + Send + 'static,
) -> anyhow::Result<Vec<Outcome>> {
    let (cache, contents) = (cache.clone(), contents.to_vec());
    let acting = tokio::task::spawn_blocking(move || {
        let outcomes = contents.iter().map(|content| act(&cache, content));
        outcomes.collect()
    });
    Ok(acting.await?)
}
