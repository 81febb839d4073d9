//! Preheating: layers are opened in the supernode's own name, and seed before anybody pulls them.
//!
//! [`Preheater::run`] does one request and tells its progress to whoever gave the channel: the
//! [API](api) streams it to the caller.

pub(crate) mod api;
mod image_reference;
mod manifest;
mod resolution;

use std::collections::HashSet;
use std::sync::Arc;

use flotilla_client::{SwarmHandle, SwarmState, rendezvous};
use flotilla_torrents::Digest;
use flotilla_torrents::preheat_api::{PreheatEvent, PreheatRequest, PreheatShare};
use flotilla_torrents::swarm_api::OpenRequest;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::{Semaphore, mpsc};
use url::{Origin, Url};

use self::image_reference::ImageReference;
use self::manifest::{Blob, Platform};
use self::resolution::{Image, ResolveError};
use crate::openings::{Opened, Openings, Unopened};
use crate::registry_login::LoginError;
use crate::source::SourceError;

/// Layers read for preheating at the same time, by all requests together: nodes that pull go
/// beside them, and a registry serves Docker's three of one node as well.
const LAYERS_AT_ONCE: usize = 8;
/// Images whose manifests are read at the same time for one request.
const IMAGES_AT_ONCE: usize = 4;
const MOST_IMAGES: usize = 256;
const MOST_PLATFORMS: usize = 32;
const MOST_SUPERNODES: usize = 256;

/// A request is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PreheatError(String);

/// A request that is understood.
#[derive(Debug)]
pub(crate) struct Preheat {
    images: Vec<ImageReference>,
    platforms: Vec<Platform>,
    share: Option<PreheatShare>,
}

impl Preheat {
    /// # Errors
    /// An image or platform is not understood, or there are too many.
    pub(crate) fn of_request(request: PreheatRequest) -> Result<Self, PreheatError> {
        let PreheatRequest {
            images,
            platforms,
            share,
        } = request;
        let supernodes = share.as_ref().map_or(0, |share| share.supernodes.len());
        for (count, most, what) in [
            (images.len(), MOST_IMAGES, "images"),
            (platforms.len(), MOST_PLATFORMS, "platforms"),
            (supernodes, MOST_SUPERNODES, "supernodes"),
        ] {
            if count > most {
                let error = format!("{count} {what}; {most} are the most of one request");
                return Err(PreheatError(error));
            }
        }
        if images.is_empty() {
            return Err(PreheatError("no images".to_owned()));
        }
        Ok(Self {
            images: parse_all(&images)?,
            platforms: parse_all(&platforms)?,
            share,
        })
    }

    /// Whether nodes ask this supernode for the blob first.
    fn wants(&self, digest: &Digest) -> bool {
        let Some(share) = &self.share else {
            return true;
        };
        let names = share.supernodes.iter().map(String::as_str);
        let first = rendezvous::ranked(&digest.to_string(), names)
            .into_iter()
            .next();
        let first = first.and_then(|index| share.supernodes.get(index));
        first.is_none_or(|first| *first == share.own)
    }
}

fn parse_all<T>(texts: &[String]) -> Result<Vec<T>, PreheatError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let parsed = texts.iter().map(|text| text.parse::<T>());
    parsed
        .map(|parsed| parsed.map_err(|error| PreheatError(error.to_string())))
        .collect()
}

/// Brings layers in the supernode's own name. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Preheater {
    openings: Arc<Openings>,
    slots: Arc<Semaphore>,
}

/// What became of the layers of one request.
#[derive(Default)]
struct Tally {
    layers: u64,
    bytes: u64,
    failed: u64,
}

/// One thing to do.
enum Step {
    Bring(Wanted),
    Tell(PreheatEvent),
}

/// One blob to bring.
struct Wanted {
    image: String,
    digest: Digest,
    url: Url,
}

impl Wanted {
    fn source_and_digest(&self) -> (Origin, Digest) {
        (self.url.origin(), self.digest.clone())
    }
}

/// Why a blob is not brought.
#[derive(Debug, thiserror::Error)]
enum BringError {
    #[error(transparent)]
    Login(#[from] Arc<LoginError>),
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
    pub(crate) fn new(openings: Arc<Openings>) -> Self {
        Self {
            openings,
            slots: Arc::new(Semaphore::new(LAYERS_AT_ONCE)),
        }
    }

    /// Does what is asked for, and tells of each layer. Ends with
    /// [`Finished`](PreheatEvent::Finished).
    ///
    /// Cancel safe: layers that were opened already still arrive.
    pub(crate) async fn run(&self, asked: &Preheat, events: &mpsc::Sender<PreheatEvent>) {
        let mut tally = Tally::default();
        let mut seen = HashSet::new();
        let images = asked.images.iter();
        let images: Vec<_> = images
            .map(|image| self.steps_of(image, asked).boxed())
            .collect();
        let steps = stream::iter(images)
            .buffer_unordered(IMAGES_AT_ONCE)
            .flat_map(stream::iter);
        // Images of one base have layers in common.
        let steps = steps.filter(|step| {
            let is_new = match step {
                Step::Bring(wanted) => seen.insert(wanted.source_and_digest()),
                Step::Tell(_) => true,
            };
            std::future::ready(is_new)
        });
        let told = steps.map(|step| self.event_of(step).boxed());
        let mut told = told.buffer_unordered(LAYERS_AT_ONCE);
        while let Some(event) = told.next().await {
            tally.add(&event);
            if events.send(event).await.is_err() {
                return;
            }
        }
        let Tally {
            layers,
            bytes,
            failed,
        } = tally;
        tracing::info!(layers, bytes, failed, "preheated");
        let finished = PreheatEvent::Finished {
            layers,
            bytes,
            failed,
        };
        // Who has left needs no last line.
        let _ = events.send(finished).await;
    }

    /// What is to be done for an image at this supernode.
    async fn steps_of(&self, name: &ImageReference, asked: &Preheat) -> Vec<Step> {
        let (source, logins) = (&self.openings.source, &self.openings.logins);
        let found = async {
            let image = Image::find(source, logins, name).await?;
            let blobs = image.blobs(&asked.platforms).await?;
            let own = blobs.into_iter().filter(|blob| asked.wants(&blob.digest));
            let steps = own.map(|Blob { digest, is_foreign }| {
                let (url, image) = (image.blob_url(&digest)?, name.written.clone());
                Ok(if is_foreign {
                    Step::Tell(PreheatEvent::Foreign { image, digest })
                } else {
                    Step::Bring(Wanted { image, digest, url })
                })
            });
            steps.collect::<Result<Vec<_>, ResolveError>>()
        };
        found.await.unwrap_or_else(|error| {
            vec![Step::Tell(PreheatEvent::Failed {
                image: name.written.clone(),
                digest: None,
                reason: error.to_string(),
            })]
        })
    }

    async fn event_of(&self, step: Step) -> PreheatEvent {
        match step {
            Step::Bring(wanted) => self.bring(wanted).await,
            Step::Tell(event) => event,
        }
    }

    async fn bring(&self, wanted: Wanted) -> PreheatEvent {
        // Nobody closes the semaphore.
        let _slot = self.slots.acquire().await;
        let brought = self.bring_whole(&wanted).await;
        let Wanted { image, digest, .. } = wanted;
        match brought {
            Ok(bytes) => PreheatEvent::Layer {
                image,
                digest,
                bytes,
            },
            Err(error) => PreheatEvent::Failed {
                image,
                digest: Some(digest),
                reason: error.to_string(),
            },
        }
    }

    /// The blob's length, once it is here and compared with its digest.
    async fn bring_whole(&self, wanted: &Wanted) -> Result<u64, BringError> {
        let opened = match self.open(wanted).await {
            // What was kept may have expired.
            Err(BringError::Source(SourceError::Refused { status: 401 })) => {
                self.openings.logins.forget(&wanted.url).await;
                self.open(wanted).await?
            }
            opened => opened?,
        };
        match opened {
            Opened::Small(small) => Ok(small.geometry().length()),
            Opened::Swarm(known) => whole(&known.handle).await,
        }
    }

    async fn open(&self, wanted: &Wanted) -> Result<Opened, BringError> {
        let request = OpenRequest {
            url: wanted.url.to_string(),
            headers: self.openings.logins.headers(&wanted.url).await?,
            digest: Some(wanted.digest.clone()),
            peer_id: self.openings.engine.peer_id(),
            offered: None,
            filter_query: Vec::new(),
            node: "preheat".to_owned(),
        };
        Ok(self.openings.bring(&request).await?)
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

impl Tally {
    fn add(&mut self, event: &PreheatEvent) {
        match event {
            PreheatEvent::Layer { bytes, .. } => {
                self.layers += 1;
                self.bytes = self.bytes.saturating_add(*bytes);
            }
            PreheatEvent::Failed { .. } => self.failed += 1,
            _ => {}
        }
    }
}
