//! `flotilla preheat`: asks the supernodes for images and files before anybody pulls them.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use url::Url;

use crate::messages::preheats::{JobStatus, PreheatEvent, PreheatRequest, PreheatShare};
use crate::supernode_client::{Supernode, SupernodeError, Supernodes};

/// A supernode that broke off is asked again after this.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Failures in a row, for which a supernode may be away: a minute at least.
const MAX_FAILURES: u32 = 120;

/// What to preheat, and where.
#[derive(Clone, Debug)]
pub struct PreheatOptions {
    /// The images, each `HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]` or its manifest's URL; and the URLs of
    /// files.
    pub images: Vec<String>,
    /// `OS/ARCHITECTURE[/VARIANT]`; none: all that the images have.
    pub platforms: Vec<String>,
    /// The nodes that are to have the layers as well, a glob of their names.
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
    /// How far it was when it was submitted.
    pub status: JobStatus,
    supernode: Supernode,
}

impl PreheatJob {
    /// The supernode that does it.
    pub fn supernode(&self) -> &Url {
        self.supernode.url()
    }

    /// What becomes of each layer, once, and in the end [`Finished`](PreheatEvent::Finished). A
    /// supernode that restarts meanwhile continues the job.
    ///
    /// # Errors
    /// The last item, when the supernode does not know the job, or is away for too long.
    pub fn events(self) -> BoxStream<'static, Result<PreheatEvent, PreheatError>> {
        let follower = Follower {
            job: self,
            events: None,
            failures: 0,
            shown: HashSet::new(),
        };
        let events = stream::unfold(Some(follower), async |follower| {
            let mut follower = follower?;
            match follower.next().await {
                Ok(last @ PreheatEvent::Finished(_)) => Some((Ok(last), None)),
                Ok(event) => Some((Ok(event), Some(follower))),
                Err(error) => Some((Err(error), None)),
            }
        });
        events.boxed()
    }
}

/// Follows a job through restarts of its supernode.
struct Follower {
    job: PreheatJob,
    events: Option<BoxStream<'static, Result<PreheatEvent, SupernodeError>>>,
    /// In a row.
    failures: u32,
    /// A supernode that is asked again starts over.
    shown: HashSet<PreheatEvent>,
}

impl Follower {
    async fn next(&mut self) -> Result<PreheatEvent, PreheatError> {
        loop {
            match self.read().await {
                Ok(PreheatEvent::Heartbeat {}) => self.failures = 0,
                Ok(event) => {
                    self.failures = 0;
                    if self.shown.insert(event.clone()) {
                        return Ok(event);
                    }
                }
                Err(
                    PreheatError::CutShort(_)
                    | PreheatError::Supernode(SupernodeError::Unreachable { .. }),
                ) if self.failures < MAX_FAILURES => {
                    self.failures += 1;
                    self.events = None;
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn read(&mut self) -> Result<PreheatEvent, PreheatError> {
        let PreheatJob { status, supernode } = &self.job;
        let events = match &mut self.events {
            Some(events) => events,
            None => {
                let events = supernode.preheat_events(status.id).await?;
                self.events.insert(events)
            }
        };
        match events.next().await {
            Some(event) => Ok(event?),
            None => Err(PreheatError::CutShort(supernode.url().clone())),
        }
    }
}

/// Has each supernode preheat its layers; each job is followed by its [`events`](PreheatJob::events).
///
/// # Errors
/// A supernode cannot be reached, or refuses the request; those before it have taken it.
pub async fn submit(options: &PreheatOptions) -> Result<Vec<PreheatJob>, PreheatError> {
    let supernodes = Supernodes::new(&options.supernodes, options.join_token.as_deref())?;
    let mut jobs = Vec::new();
    for supernode in supernodes.all() {
        let request = request_to(supernode, options);
        jobs.push(PreheatJob {
            status: supernode.submit_preheat(&request).await?,
            supernode: supernode.clone(),
        });
    }
    Ok(jobs)
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
        nodes: options.nodes.clone(),
        filter_query: options.filter_query.clone(),
    }
}
