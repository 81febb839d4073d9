//! One blob, or one file, on its way to this supernode.

use flotilla_client::{SwarmHandle, SwarmState};
use flotilla_cluster::messages::preheats::PreheatEvent;
use flotilla_cluster::messages::swarms::OpenRequest;
use flotilla_registry::login::LoginHeaders;
use flotilla_registry::origin_of;
use flotilla_registry::source::SourceError;
use flotilla_torrents::{ContentId, Digest};
use url::Url;

use super::identity::{IdentityError, LentAuthorization};
use super::{Brought, Preheat, Preheater, Told};
use crate::swarms::{Opened, Unopened};

/// One blob, or one file, to bring.
pub(super) struct Wanted {
    /// The image, or the file, as people name it.
    pub(super) name: String,
    /// The image by its tag.
    pub(super) image: Option<String>,
    /// None: a file.
    pub(super) digest: Option<Digest>,
    pub(super) url: Url,
}

impl Wanted {
    /// Equal for equal content of one source.
    pub(super) fn source_and_content(&self) -> (String, String) {
        let content = match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.url.to_string(),
        };
        (origin_of(&self.url), content)
    }
}

/// Why a blob or a file is not brought.
#[derive(Debug, thiserror::Error)]
enum BringError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Source(SourceError),
    #[error("{0}")]
    Unswarmable(String),
    #[error("the supernode gives it up: {0}")]
    Void(String),
    #[error("the supernode stops, or has no room for it any longer")]
    Closed,
}

impl From<Unopened> for BringError {
    fn from(error: Unopened) -> Self {
        match error {
            Unopened::Source(error) => Self::Source(error),
            Unopened::Unswarmable(reason) => Self::Unswarmable(reason),
        }
    }
}

impl Preheater {
    pub(super) async fn bring(&self, wanted: Wanted, asked: &Preheat) -> Told {
        // Nobody closes the semaphore.
        let _slot = self.slots.acquire().await;
        let brought = match wanted.digest {
            Some(_) => self.bring_blob(&wanted, &asked.lent).await,
            // No login goes to where a file is: it is for who may have it without one.
            None => {
                let opened = self.open(&wanted, Vec::new(), asked.filter_query());
                arrived(opened.await).await
            }
        };
        let Wanted {
            name, digest, url, ..
        } = wanted;
        match brought {
            Ok((content, bytes)) => Told {
                event: match digest {
                    Some(digest) => PreheatEvent::Layer {
                        image: name,
                        digest,
                        bytes,
                    },
                    None => PreheatEvent::File { url: name, bytes },
                },
                brought: Some(Brought { url, content }),
            },
            Err(error) => Told::of(PreheatEvent::Failed {
                image: name,
                digest,
                reason: error.to_string(),
            }),
        }
    }

    /// Once the blob is here and compared with its digest.
    async fn bring_blob(
        &self,
        wanted: &Wanted,
        lent: &LentAuthorization,
    ) -> Result<(ContentId, u64), BringError> {
        let identity = self.identity(lent);
        let headers = identity.headers(&wanted.url).await?;
        let opened = match self.open(wanted, headers, &[]).await {
            Err(BringError::Source(SourceError::Refused { status }))
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
        wanted: &Wanted,
        headers: LoginHeaders,
        filter_query: &[String],
    ) -> Result<Opened, BringError> {
        let request = OpenRequest {
            url: wanted.url.to_string(),
            headers,
            digest: wanted.digest.clone(),
            peer_id: self.openings.engine.peer_id(),
            offered: None,
            filter_query: filter_query.to_vec(),
            node: "preheat".to_owned(),
            images: wanted.image.iter().cloned().collect(),
        };
        let opened = self.openings.bring(&request).await?;
        if let Opened::Swarm(known) = &opened {
            self.statistics.note_brought(&request, &known.handle);
        }
        Ok(opened)
    }
}

/// What it is and its length, once all of it is here.
async fn arrived(opened: Result<Opened, BringError>) -> Result<(ContentId, u64), BringError> {
    match opened? {
        Opened::Small(small) => Ok((small.content().clone(), small.geometry().length())),
        Opened::Swarm(known) => {
            let length = whole(&known.handle).await?;
            Ok((known.handle.content().clone(), length))
        }
    }
}

async fn whole(handle: &SwarmHandle) -> Result<u64, BringError> {
    let mut status = handle.watch();
    let settled =
        status.wait_for(|status| status.complete || matches!(status.state, SwarmState::Void(_)));
    let settled = settled.await.map_err(|_| BringError::Closed)?.clone();
    match settled.state {
        SwarmState::Void(reason) => Err(BringError::Void(reason)),
        _ => Ok(handle.geometry().length()),
    }
}
