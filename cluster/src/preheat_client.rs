//! `flotilla preheat`: asks the supernodes for images and files before anybody pulls them.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use url::Url;

use crate::messages::preheats::{JobStatus, PreheatEvent, PreheatRequest, PreheatShare};
use crate::supernode_client::{Supernode, SupernodeError, Supernodes};

/// How often jobs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks in a row that a supernode may be away for: a minute at least.
const MOST_FAILURES: u32 = 120;

/// What to preheat, and where.
#[derive(Clone, Debug)]
pub struct PreheatOptions {
    /// The images, each `HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]` or its manifest's URL; and the URLs of
    /// files.
    pub images: Vec<String>,
    /// `OS/ARCHITECTURE[/VARIANT]`; none: all that the images have.
    pub platforms: Vec<String>,
    /// The nodes that are to have the layers as well, a glob of their names; only of jobs.
    pub nodes: Option<String>,
    /// Query parameters that do not name a file, such as signatures.
    pub filter_query: Vec<String>,
    /// The supernodes of the cluster, as nodes list them: each takes its own layers.
    pub supernodes: Vec<Url>,
    /// The cluster's secret, when it has one.
    pub join_token: Option<String>,
}

/// A preheat that a supernode does on its own.
#[derive(Clone, Debug)]
pub struct PreheatJob {
    /// How far it was when it was looked at last.
    pub status: JobStatus,
    supernode: Supernode,
}

impl PreheatJob {
    /// The supernode that does it.
    pub fn supernode(&self) -> &Url {
        self.supernode.url()
    }

    /// Waits for its end. A supernode that restarts meanwhile goes on with it.
    ///
    /// # Errors
    /// The supernode does not know it, or is away for too long.
    pub async fn finished(&mut self) -> Result<(), PreheatError> {
        let mut failures = 0;
        while !self.status.state.is_final() {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.supernode.preheat_job(self.status.id).await {
                Ok(status) => (self.status, failures) = (status, 0),
                Err(SupernodeError::Unreachable { .. }) if failures < MOST_FAILURES => {
                    failures += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Has each supernode preheat its layers without waiting for them.
///
/// # Errors
/// A supernode cannot be reached, or refuses the request; those before it have taken it.
pub async fn submit(options: &PreheatOptions) -> Result<Vec<PreheatJob>, PreheatError> {
    let supernodes = Supernodes::new(&options.supernodes, options.join_token.as_deref())?;
    let mut jobs = Vec::new();
    for supernode in supernodes.all() {
        let mut request = request_to(supernode, options);
        request.nodes = options.nodes.clone();
        jobs.push(PreheatJob {
            status: supernode.submit_preheat(&request).await?,
            supernode: supernode.clone(),
        });
    }
    Ok(jobs)
}

/// What became of the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PreheatSummary {
    /// Layers and configurations that the supernodes have.
    pub layers: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Layers and images that they could not get.
    pub failed: u64,
}

/// Preheating ended without its last word.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreheatError {
    /// A supernode failed, or refuses the request.
    #[error(transparent)]
    Supernode(#[from] SupernodeError),
    /// A supernode's answer ended too early.
    #[error("supernode {0} stopped before it was done")]
    CutShort(Url),
    /// The client cannot be made.
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Waits until the supernodes have every layer, and shows each event but heartbeats and last
/// lines to `told`.
///
/// # Errors
/// A supernode cannot be reached, refuses the request, or stops. Layers that it could not get are
/// no error here: they are counted.
pub async fn run(
    options: &PreheatOptions,
    mut told: impl FnMut(&PreheatEvent),
) -> Result<PreheatSummary, PreheatError> {
    let supernodes = Supernodes::new(&options.supernodes, options.join_token.as_deref())?;
    let mut answers = stream::SelectAll::new();
    for supernode in supernodes.all() {
        answers.push(answer_of(supernode, options).await?);
    }
    let mut summary = PreheatSummary::default();
    while let Some(event) = answers.next().await {
        match event? {
            PreheatEvent::Heartbeat {} => {}
            PreheatEvent::Finished {
                layers,
                bytes,
                failed,
            } => {
                summary.layers += layers;
                summary.bytes += bytes;
                summary.failed += failed;
            }
            event => told(&event),
        }
    }
    Ok(summary)
}

/// The events of one supernode; an error in place of a last line that is missing.
async fn answer_of(
    supernode: &Supernode,
    options: &PreheatOptions,
) -> Result<stream::BoxStream<'static, Result<PreheatEvent, PreheatError>>, PreheatError> {
    let events = supernode.preheat(&request_to(supernode, options)).await?;
    let state = Some((events, supernode.url().clone()));
    let answer = stream::unfold(state, async |state| {
        let (mut events, own) = state?;
        match events.next().await {
            Some(Ok(last @ PreheatEvent::Finished { .. })) => Some((Ok(last), None)),
            Some(Ok(event)) => Some((Ok(event), Some((events, own)))),
            Some(Err(error)) => Some((Err(error.into()), None)),
            None => Some((Err(PreheatError::CutShort(own)), None)),
        }
    });
    Ok(answer.boxed())
}

/// Each supernode has its own layers, where there are several.
fn request_to(supernode: &Supernode, options: &PreheatOptions) -> PreheatRequest {
    let names = options.supernodes.iter().map(Url::to_string);
    let share = (options.supernodes.len() > 1).then(|| PreheatShare {
        supernodes: names.collect(),
        own: supernode.url().to_string(),
    });
    PreheatRequest {
        images: options.images.clone(),
        platforms: options.platforms.clone(),
        share,
        nodes: None,
        filter_query: options.filter_query.clone(),
    }
}
