//! Preheating: layers are opened in the supernode's own name, and seed before anybody pulls them.
//!
//! [`Preheater::run`] does one request and tells its progress to whoever gave the channel: the
//! [API](api) streams it to the caller.

pub(crate) mod api;
mod identity;
mod image_reference;
pub(crate) mod jobs;
mod manifest;
pub(crate) mod orders;
mod resolution;
pub(crate) mod triggers;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flotilla_client::{SwarmHandle, SwarmState, rendezvous};
use flotilla_torrents::Digest;
use flotilla_torrents::orders_api::OpenOrdered;
use flotilla_torrents::preheat_api::{PreheatEvent, PreheatRequest, PreheatShare};
use flotilla_torrents::swarm_api::{OpenRequest, OpenResponse};
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _, stream};
use glob::Pattern;
use tokio::sync::{Semaphore, mpsc};
use url::{Origin, Url};

use self::identity::{Identity, IdentityError, LentAuthorization};
use self::image_reference::ImageReference;
use self::manifest::{Blob, Platform};
use self::resolution::{Image, ResolveError};
use self::triggers::image_at;
use crate::openings::{Opened, Openings, Unopened};
use crate::source::SourceError;

/// Layers read for preheating at the same time, by all requests together: nodes that pull go
/// beside them, and a registry serves Docker's three of one node as well.
const LAYERS_AT_ONCE: usize = 8;
/// Images whose manifests are read at the same time for one request.
const IMAGES_AT_ONCE: usize = 4;
const MOST_IMAGES: usize = 256;
const MOST_PLATFORMS: usize = 32;
const MOST_SUPERNODES: usize = 256;
/// Bytes of a glob of nodes' names.
const LONGEST_SELECTOR: usize = 1024;

/// A request is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PreheatError(String);

/// A request that is understood.
#[derive(Debug)]
pub(crate) struct Preheat {
    images: Vec<ImageReference>,
    platforms: Vec<Platform>,
    share: Option<PreheatShare>,
    /// The nodes that are to have the layers as well.
    nodes: Option<Pattern>,
    lent: Arc<LentAuthorization>,
    /// Layers of the images whose manifests were read.
    wanted: AtomicU64,
}

impl Preheat {
    /// # Errors
    /// An image or platform is not understood, or there are too many.
    pub(crate) fn of_request(request: PreheatRequest) -> Result<Self, PreheatError> {
        let PreheatRequest {
            images,
            platforms,
            share,
            nodes,
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
            images: parse_all(
                &images
                    .into_iter()
                    .map(image_of)
                    .collect::<Result<Vec<_>, _>>()?,
            )?,
            platforms: parse_all(&platforms)?,
            share,
            nodes: nodes.as_deref().map(selector).transpose()?,
            lent: Arc::default(),
            wanted: AtomicU64::new(0),
        })
    }

    /// Reads the registry with what the caller lent, for as long as it is taken there.
    pub(crate) fn lend(&self, authorization: String) {
        self.lent.lend(authorization);
    }

    /// The images, as people name them.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.images.iter().map(|image| image.written.as_str())
    }

    /// Layers that are to be here, of the images whose manifests were read so far.
    pub(crate) fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Relaxed)
    }

    /// The nodes that are to have the layers as well, a glob of their names.
    pub(crate) fn nodes(&self) -> Option<&Pattern> {
        self.nodes.as_ref()
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

/// An image may be named by its manifest's URL as well.
fn image_of(text: String) -> Result<String, PreheatError> {
    if !text.contains("://") {
        return Ok(text);
    }
    image_at(&text, None).map_err(|error| PreheatError(error.to_string()))
}

fn selector(text: &str) -> Result<Pattern, PreheatError> {
    if text.is_empty() || text.len() > LONGEST_SELECTOR {
        let error = format!("a glob of nodes' names has 1 to {LONGEST_SELECTOR} characters");
        return Err(PreheatError(error));
    }
    Pattern::new(text).map_err(|error| PreheatError(format!("nodes {text:?}: {error}")))
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

/// What a request has come to.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) event: PreheatEvent,
    /// Where the registry has the layer; only of one that was brought.
    pub(crate) url: Option<Url>,
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
    pub(crate) fn new(openings: Arc<Openings>) -> Self {
        Self {
            openings,
            slots: Arc::new(Semaphore::new(LAYERS_AT_ONCE)),
        }
    }

    /// The first registry that the operator has not listed.
    pub(crate) async fn unlisted(&self, asked: &Preheat) -> Option<String> {
        for image in &asked.images {
            if self.identity(&asked.lent).listed(image).await.is_none() {
                return Some(image.registry());
            }
        }
        None
    }

    /// What a node is answered that is to have a layer: whoever asked for the preheat has been let
    /// in by the registry.
    pub(crate) async fn open_ordered(&self, ordered: OpenOrdered, url: String) -> OpenResponse {
        let mut request = OpenRequest {
            url,
            headers: Vec::new(),
            digest: Some(ordered.digest),
            peer_id: ordered.peer_id,
            offered: None,
            filter_query: Vec::new(),
            node: ordered.node,
        };
        if let Some(answer) = self.openings.open_at_hand(&request).await {
            return answer;
        }
        // It had to make room since.
        let unswarmable = |reason: String| OpenResponse::Unswarmable { reason };
        let url = match Url::parse(&request.url) {
            Ok(url) => url,
            Err(error) => return unswarmable(error.to_string()),
        };
        match self.openings.logins.headers(&url).await {
            Ok(headers) => {
                request.headers = headers;
                self.openings.open(&request).await
            }
            Err(error) => unswarmable(error.to_string()),
        }
    }

    /// Does what is asked for, and tells of each layer. Ends with
    /// [`Finished`](PreheatEvent::Finished).
    ///
    /// Cancel safe: layers that were opened already still arrive.
    pub(crate) async fn run(&self, asked: &Preheat, events: &mpsc::Sender<Told>) {
        let mut tally = Tally::default();
        let mut seen = HashSet::new();
        asked.wanted.store(0, Ordering::Relaxed);
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
            if !is_new {
                asked.wanted.fetch_sub(1, Ordering::Relaxed);
            }
            std::future::ready(is_new)
        });
        let told = steps.map(|step| self.told_of(step, &asked.lent).boxed());
        let mut told = told.buffer_unordered(LAYERS_AT_ONCE);
        while let Some(told) = told.next().await {
            tally.add(&told.event);
            if events.send(told).await.is_err() {
                return;
            }
        }
        let Tally {
            layers,
            bytes,
            failed,
        } = tally;
        tracing::info!(layers, bytes, failed, "preheated");
        let event = PreheatEvent::Finished {
            layers,
            bytes,
            failed,
        };
        // Who has left needs no last line.
        let _ = events.send(Told { event, url: None }).await;
    }

    /// What is to be done for an image at this supernode.
    async fn steps_of(&self, name: &ImageReference, asked: &Preheat) -> Vec<Step> {
        let identity = self.identity(&asked.lent);
        let found = async {
            let image = Image::find(&self.openings.source, identity, name).await?;
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
        let found = found.inspect_ok(|steps| {
            let wanted = steps.iter().filter(|step| matches!(step, Step::Bring(_)));
            let wanted = u64::try_from(wanted.count()).unwrap_or(u64::MAX);
            asked.wanted.fetch_add(wanted, Ordering::Relaxed);
        });
        found.await.unwrap_or_else(|error| {
            vec![Step::Tell(PreheatEvent::Failed {
                image: name.written.clone(),
                digest: None,
                reason: error.to_string(),
            })]
        })
    }

    fn identity<'a>(&'a self, lent: &'a LentAuthorization) -> Identity<'a> {
        Identity::new(&self.openings.logins, lent)
    }

    async fn told_of(&self, step: Step, lent: &LentAuthorization) -> Told {
        match step {
            Step::Bring(wanted) => self.bring(wanted, lent).await,
            Step::Tell(event) => Told { event, url: None },
        }
    }

    async fn bring(&self, wanted: Wanted, lent: &LentAuthorization) -> Told {
        // Nobody closes the semaphore.
        let _slot = self.slots.acquire().await;
        let brought = self.bring_whole(&wanted, lent).await;
        let Wanted { image, digest, url } = wanted;
        match brought {
            Ok(bytes) => Told {
                event: PreheatEvent::Layer {
                    image,
                    digest,
                    bytes,
                },
                url: Some(url),
            },
            Err(error) => Told {
                event: PreheatEvent::Failed {
                    image,
                    digest: Some(digest),
                    reason: error.to_string(),
                },
                url: None,
            },
        }
    }

    /// The blob's length, once it is here and compared with its digest.
    async fn bring_whole(
        &self,
        wanted: &Wanted,
        lent: &LentAuthorization,
    ) -> Result<u64, BringError> {
        let identity = self.identity(lent);
        let opened = match self.open(wanted, identity).await {
            Err(BringError::Source(SourceError::Refused { status }))
                if identity.may_change(status, &wanted.url).await =>
            {
                self.open(wanted, identity).await?
            }
            opened => opened?,
        };
        match opened {
            Opened::Small(small) => Ok(small.geometry().length()),
            Opened::Swarm(known) => whole(&known.handle).await,
        }
    }

    async fn open(&self, wanted: &Wanted, identity: Identity<'_>) -> Result<Opened, BringError> {
        let request = OpenRequest {
            url: wanted.url.to_string(),
            headers: identity.headers(&wanted.url).await?,
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
