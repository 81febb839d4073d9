//! One blob, or one file, on its way to this supernode.

use std::sync::Arc;

use flotilla_client::{SwarmHandle, SwarmState};
use flotilla_cluster::messages::preheats::PreheatEvent;
use flotilla_cluster::messages::swarms::OpenRequest;
use flotilla_registry::login::LoginHeaders;
use flotilla_registry::origin_of;
use flotilla_registry::source::SourceError;
use flotilla_torrents::{ContentId, Digest};
use tokio::sync::Semaphore;
use url::Url;

use super::identity::{Identity, IdentityError, LentAuthorization};
use super::request::Preheat;
use crate::stats::Statistics;
use crate::swarms::{OpenContent, OpenError, SwarmOpener};

/// Layers read for preheating at the same time, by all requests together: nodes that pull go
/// beside them, and a registry serves Docker's three of one node as well.
pub(super) const LAYERS_AT_ONCE: usize = 8;

/// What one step of a preheat has led to.
#[derive(Debug)]
pub(crate) struct StepOutcome {
    pub(crate) event: PreheatEvent,
    pub(crate) fetched: Option<Fetched>,
}

/// A layer or a file that is here.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Where its source has it.
    pub(crate) url: Url,
    pub(crate) content: ContentId,
}

impl StepOutcome {
    /// Of what is not fetched.
    pub(super) fn of(event: PreheatEvent) -> Self {
        Self {
            event,
            fetched: None,
        }
    }
}

/// One blob, or one file, to fetch.
pub(super) struct FetchRequest {
    /// The image, or the file, as people name it.
    pub(super) name: String,
    /// The image by its tag.
    pub(super) image: Option<String>,
    /// None: a file.
    pub(super) digest: Option<Digest>,
    pub(super) url: Url,
}

impl FetchRequest {
    /// Equal for equal content of one source.
    pub(super) fn source_and_content(&self) -> (String, String) {
        let content = match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.url.to_string(),
        };
        (origin_of(&self.url), content)
    }
}

/// Why a blob or a file is not fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Source(SourceError),
    #[error("{0}")]
    Unswarmable(String),
    #[error("the swarm failed: {0}")]
    Void(String),
    #[error("the supernode stops, or evicted it to make room")]
    Closed,
}

impl From<OpenError> for FetchError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Source(error) => Self::Source(error),
            OpenError::Unswarmable(reason) => Self::Unswarmable(reason),
            OpenError::Elsewhere(elsewhere) => Self::Unswarmable(elsewhere.reason),
        }
    }
}

/// Opens swarms in the supernode's own name, and waits until their content is here. Cheap to clone.
#[derive(Clone)]
pub(super) struct Fetcher {
    opener: Arc<SwarmOpener>,
    statistics: Statistics,
    slots: Arc<Semaphore>,
}

impl Fetcher {
    pub(super) fn new(opener: Arc<SwarmOpener>, statistics: Statistics) -> Self {
        Self {
            opener,
            statistics,
            slots: Arc::new(Semaphore::new(LAYERS_AT_ONCE)),
        }
    }

    pub(super) async fn fetch(&self, wanted: FetchRequest, asked: &Preheat) -> StepOutcome {
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        let fetched = match wanted.digest {
            Some(_) => self.fetch_blob(&wanted, &asked.lent).await,
            // No login goes to where a file is: it is for who may have it without one.
            None => {
                let opened = self.open(&wanted, Vec::new(), asked.filter_query());
                arrived(opened.await).await
            }
        };
        let FetchRequest {
            name, digest, url, ..
        } = wanted;
        match fetched {
            Ok((content, bytes)) => StepOutcome {
                event: match digest {
                    Some(digest) => PreheatEvent::Layer {
                        image: name,
                        digest,
                        bytes,
                    },
                    None => PreheatEvent::File { url: name, bytes },
                },
                fetched: Some(Fetched { url, content }),
            },
            Err(error) => StepOutcome::of(PreheatEvent::Failed {
                image: name,
                digest,
                reason: error.to_string(),
            }),
        }
    }

    /// Once the blob is here and compared with its digest.
    async fn fetch_blob(
        &self,
        wanted: &FetchRequest,
        lent: &LentAuthorization,
    ) -> Result<(ContentId, u64), FetchError> {
        let identity = Identity::new(&self.opener.logins, lent);
        let headers = identity.headers(&wanted.url).await?;
        let opened = match self.open(wanted, headers, &[]).await {
            Err(FetchError::Source(SourceError::Refused { status }))
                if identity.may_change(status, &wanted.url).await =>
            {
                let headers = identity.headers(&wanted.url).await?;
                self.open(wanted, headers, &[]).await
            }
            opened => opened,
        };
        arrived(opened).await
    }

    async fn open(
        &self,
        wanted: &FetchRequest,
        headers: LoginHeaders,
        filter_query: &[String],
    ) -> Result<OpenContent, FetchError> {
        let request = OpenRequest {
            length: None,
            url: wanted.url.to_string(),
            headers,
            digest: wanted.digest.clone(),
            peer_id: self.opener.engine.peer_id(),
            offered: None,
            filter_query: filter_query.to_vec(),
            node: "preheat".to_owned(),
            images: wanted.image.iter().cloned().collect(),
        };
        let opened = self.opener.bring(&request).await?;
        if let OpenContent::Swarm(known) = &opened {
            self.statistics.note_brought(&request, &known.handle);
        }
        Ok(opened)
    }
}

/// What it is and its length, once all of it is here.
async fn arrived(opened: Result<OpenContent, FetchError>) -> Result<(ContentId, u64), FetchError> {
    match opened? {
        OpenContent::Small(small) => Ok((small.content().clone(), small.geometry().length())),
        OpenContent::Swarm(known) => {
            let length = whole(&known.handle).await?;
            Ok((known.handle.content().clone(), length))
        }
    }
}

async fn whole(handle: &SwarmHandle) -> Result<u64, FetchError> {
    let mut status = handle.watch();
    let settled =
        status.wait_for(|status| status.complete || matches!(status.state, SwarmState::Void(_)));
    let settled = settled.await.map_err(|_| FetchError::Closed)?.clone();
    match settled.state {
        SwarmState::Void(reason) => Err(FetchError::Void(reason)),
        _ => Ok(handle.geometry().length()),
    }
}
