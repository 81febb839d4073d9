//! `flotilla get`: one URL through the swarm into one file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use flotilla_torrents::{Digest, DigestHasher};
use futures_util::{StreamExt as _, TryStreamExt as _};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::rate_limit::RateLimiter;
use crate::{ContentRequest, Layer, Node, NodeConfig, OpenError, SupernodeError, SwarmHandle};

/// What to get, and how.
#[derive(Clone, Debug)]
pub struct GetOptions {
    /// Where the source has it; http or https.
    pub url: Url,
    /// The file to make. It appears whole and verified, or not at all.
    pub output: PathBuf,
    /// The supernodes of the cluster.
    pub supernodes: Vec<Url>,
    /// The cluster's secret, when it has one.
    pub join_token: Option<String>,
    /// Headers for the source.
    pub headers: Vec<(String, String)>,
    /// What the file has to be.
    pub digest: Option<Digest>,
    /// Limit on bytes per second received.
    pub download_rate: Option<u64>,
    /// Limit on bytes per second sent.
    pub upload_rate: Option<u64>,
    /// How long to go on seeding after completion.
    pub seed_for: Duration,
    /// Where pieces are kept until completion; default: a hidden directory beside `output`,
    /// removed at the end.
    pub data_dir: Option<PathBuf>,
    /// Show a progress bar on stderr.
    pub progress: bool,
    /// Where peers connect to; default: any address, a port of the system's choice.
    pub peer_listen: Option<SocketAddr>,
}

/// Gets the file. Returns when it is complete, verified and seeded for the asked time.
///
/// # Errors
/// The file could not be had; nothing is left at `output`.
pub async fn run(options: GetOptions, shutdown: CancellationToken) -> anyhow::Result<()> {
    let work_dir = WorkDir::create(&options)?;
    let listen = options
        .peer_listen
        .unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let peers = TcpListener::bind(listen)
        .await
        .with_context(|| format!("peer address {listen}"))?;
    let stop = shutdown.child_token();
    let node = Node::start(node_config(&options, work_dir.path()), peers, stop.clone()).await?;
    let got = shutdown
        .run_until_cancelled(get(&options, &node, work_dir.path()))
        .await;
    stop.cancel();
    node.engine().stopped().await;
    match got {
        Some(Ok(())) => {
            work_dir.remove();
            Ok(())
        }
        Some(Err(error)) => Err(error),
        None => bail!("interrupted; run the same command again to go on from here"),
    }
}

async fn get(options: &GetOptions, node: &Node, work_dir: &Path) -> anyhow::Result<()> {
    let bar = progress_bar(options);
    let request = ContentRequest {
        url: options.url.clone(),
        headers: options.headers.clone(),
        // The digest is checked here at the end; the swarm is named by URL and validator.
        digest: None,
    };
    let part = match node.open(request).await {
        Ok(layer) => {
            bar.set_length(layer.length());
            match from_swarm(&layer, &bar).await {
                Ok(()) => match layer.swarm() {
                    Some(swarm) => Finished::Layer(swarm.clone()),
                    None => Finished::Part(write_small(&layer, work_dir).await?),
                },
                Err(reason) => {
                    tracing::warn!(reason, "going on from the source");
                    Finished::Part(from_source(options, work_dir, Some(&layer), &bar).await?)
                }
            }
        }
        Err(OpenError::Unswarmable(reason)) => {
            tracing::warn!(reason, "straight from the source");
            Finished::Part(from_source(options, work_dir, None, &bar).await?)
        }
        Err(OpenError::Refused { status, reason }) => {
            bail!(
                "{}: the source answered {status} {reason}",
                redacted(&options.url)
            );
        }
        Err(
            error @ OpenError::Supernode(
                SupernodeError::Unreachable { .. } | SupernodeError::NoneHealthy(_),
            ),
        ) => {
            return Err(anyhow::anyhow!(
                "{error}; check --supernode, or fetch the URL without flotilla"
            ));
        }
        Err(error) => return Err(error.into()),
    };
    publish(part.path(), &options.output, options.digest.clone()).await?;
    bar.finish_and_clear();
    if matches!(part, Finished::Layer(_)) && !options.seed_for.is_zero() {
        tracing::info!(seconds = options.seed_for.as_secs(), "seeding");
        tokio::time::sleep(options.seed_for).await;
    }
    Ok(())
}

enum Finished {
    Layer(SwarmHandle),
    Part(PathBuf),
}

impl Finished {
    fn path(&self) -> PathBuf {
        match self {
            Self::Layer(swarm) => swarm.layer().data_path(),
            Self::Part(path) => path.clone(),
        }
    }
}

/// Waits for the whole; Err says why the swarm will not bring it.
async fn from_swarm(layer: &Layer, bar: &ProgressBar) -> Result<(), String> {
    let Some(swarm) = layer.swarm() else {
        return Ok(());
    };
    let mut status = swarm.watch();
    let mut completed = std::pin::pin!(layer.completed());
    let piece_length = u64::from(swarm.geometry().piece_length());
    loop {
        tokio::select! {
            completed = &mut completed => return completed,
            changed = status.changed() => {
                if changed.is_err() {
                    return Err("the node stops".to_owned());
                }
                let held = u64::from(status.borrow_and_update().held);
                bar.set_position((held * piece_length).min(layer.length()));
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        if let Some(reason) = swarm.stalled() {
            return Err(reason.to_owned());
        }
    }
}

async fn write_small(layer: &Layer, work_dir: &Path) -> anyhow::Result<PathBuf> {
    let path = work_dir.join("part");
    let parts: Vec<_> = layer.read(0..layer.length()).try_collect().await?;
    let written = tokio::fs::write(&path, parts.concat()).await;
    written.with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Writes the file from what the swarm brought and, for the rest, from the source.
async fn from_source(
    options: &GetOptions,
    work_dir: &Path,
    layer: Option<&Layer>,
    bar: &ProgressBar,
) -> anyhow::Result<PathBuf> {
    let path = work_dir.join("part");
    let mut file = tokio::fs::File::create(&path)
        .await
        .with_context(|| path.display().to_string())?;
    let mut position = 0;
    if let Some(layer) = layer {
        let held = layer.swarm().map_or(0, SwarmHandle::held_prefix);
        let mut reader = layer.read(0..held);
        while let Some(Ok(bytes)) = reader.next().await {
            file.write_all(&bytes).await?;
            position += bytes.len() as u64;
        }
    }
    let http = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(10))
        .build()?;
    let mut request = http
        .get(options.url.clone())
        .header("accept-encoding", "identity");
    for (name, value) in &options.headers {
        request = request.header(name, value);
    }
    if position > 0 {
        request = request.header("range", format!("bytes={position}-"));
    }
    let source = redacted(&options.url);
    let mut reply = request
        .send()
        .await
        .with_context(|| source.clone())?
        .error_for_status()?;
    if position > 0 && reply.status() != reqwest::StatusCode::PARTIAL_CONTENT {
        file.set_len(0).await?;
        file = tokio::fs::File::create(&path).await?;
        position = 0;
    }
    let expected = reply.content_length().map(|length| length + position);
    if let Some(expected) = expected {
        bar.set_length(expected);
    }
    let limit = RateLimiter::new(options.download_rate);
    while let Some(bytes) = reply.chunk().await.with_context(|| source.clone())? {
        limit.acquire(bytes.len()).await;
        file.write_all(&bytes).await?;
        position += bytes.len() as u64;
        bar.set_position(position);
    }
    if expected.is_some_and(|expected| expected != position) {
        bail!("{source}: the connection ended after {position} bytes");
    }
    file.sync_all().await?;
    Ok(path)
}

/// Checks the digest and lets the file appear.
async fn publish(part: PathBuf, output: &Path, expected: Option<Digest>) -> anyhow::Result<()> {
    let output = output.to_owned();
    let published = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        if let Some(expected) = expected {
            let found = digest_of(&part, &expected)?;
            if found != expected {
                bail!(
                    "digest mismatch: the source has {found}, --digest says {expected}; nothing written"
                );
            }
        }
        let parent = output
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let scratch = tempfile::Builder::new()
            .prefix(".flotilla-")
            .tempdir_in(parent.unwrap_or(Path::new(".")))
            .with_context(|| format!("directory of {}", output.display()))?;
        let link = scratch.path().join("file");
        // Same file system: a second name for the same bytes. Otherwise: a copy.
        if std::fs::hard_link(&part, &link).is_err() {
            std::fs::copy(&part, &link)?;
        }
        std::fs::File::open(&link)?.sync_all()?;
        std::fs::rename(&link, &output).with_context(|| output.display().to_string())
    });
    published.await?
}

fn digest_of(path: &Path, like: &Digest) -> anyhow::Result<Digest> {
    use std::io::Read as _;
    let mut file = std::fs::File::open(path)?;
    let mut hasher = DigestHasher::new(like.algorithm());
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

/// Where the pieces are kept until completion.
struct WorkDir {
    path: PathBuf,
    own: bool,
}

impl WorkDir {
    fn create(options: &GetOptions) -> anyhow::Result<Self> {
        let own = options.data_dir.is_none();
        let path = match &options.data_dir {
            Some(path) => path.clone(),
            None => {
                let name = options.output.file_name().context("-o names no file")?;
                let mut hidden = std::ffi::OsString::from(".");
                hidden.push(name);
                hidden.push(".flotilla");
                options.output.with_file_name(hidden)
            }
        };
        std::fs::create_dir_all(&path).with_context(|| {
            format!(
                "data directory {} cannot be written; choose another with --data-dir",
                path.display()
            )
        })?;
        Ok(Self { path, own })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn remove(self) {
        if self.own
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "not removed");
        }
    }
}

fn node_config(options: &GetOptions, data_dir: &Path) -> NodeConfig {
    NodeConfig {
        data_dir: data_dir.to_owned(),
        supernodes: options.supernodes.clone(),
        join_token: options.join_token.clone(),
        node_name: "get".to_owned(),
        cache_quota: u64::MAX,
        upload_rate: options.upload_rate,
        download_rate: options.download_rate,
    }
}

fn progress_bar(options: &GetOptions) -> ProgressBar {
    if !options.progress {
        return ProgressBar::hidden();
    }
    let style = "{bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    ProgressBar::new(0).with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

/// The URL without what may be secret in it.
fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    let _ = shown.set_password(None);
    let _ = shown.set_username("");
    shown.to_string()
}
