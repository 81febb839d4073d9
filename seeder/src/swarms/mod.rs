//! What a request to open a swarm leads to: one `GET` at the source for the first caller,
//! a check of his credentials for every other.

mod at_hand;
mod at_source;
mod failing_sources;
pub(crate) mod ingest;
mod ingest_error;
pub(crate) mod offers;
mod piece_source;
mod sealed_torrent;
mod second_reading;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_client::{Engine, SmallContent, SwarmHandle, SwarmState};
use flotilla_cluster::content_url;
use flotilla_cluster::messages::swarms::{
    Delivery, InlineContent, OpenRequest, OpenResponse, SwarmDescriptor,
};
use flotilla_cluster::unix_now;
use flotilla_cluster::{SignedTicket, Ticket, TicketSigner};
use flotilla_registry::authorization::Authorizer;
use flotilla_registry::login::RegistryLogins;
use flotilla_registry::source::{Source, SourceError};
use flotilla_registry::token::TokenVerifier;
use flotilla_registry::{BlobUrl, origin_of};
use flotilla_torrents::{ContentId, Digest, Geometry, InfoHash, PeerId};
use futures_util::Stream;
use moka::future::Cache;
use parking_lot::Mutex;
use url::Url;

pub(crate) use self::at_source::WITHOUT_DISK;
pub(crate) use self::sealed_torrent::sealed_torrent;
use crate::public::layers::PublicLayers;
use crate::swarms::failing_sources::{Elsewhere, FailingSources};
use crate::swarms::ingest::Ingest;
use crate::swarms::offers::{OfferedBlob, Offers, TakeError};

/// Content below this is not worth a swarm.
const MIN_SWARM: u64 = 1024 * 1024;
/// Bytes of small blobs kept in memory.
const MAX_SMALL: u64 = 32 * 1024 * 1024;
/// Long enough to connect to every peer of a large download, short enough that a node that
/// lost its right cannot join for long. Nodes ask again for a new one.
const TICKET_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// The supernode's own ticket; it is the authority.
const OWN_TICKET_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Opens swarms.
pub(crate) struct SwarmOpener {
    pub(crate) engine: Engine,
    pub(crate) source: Source,
    pub(crate) logins: RegistryLogins,
    pub(crate) signer: TicketSigner,
    /// Public layers.
    pub(crate) public_layers: PublicLayers,
    /// Where the supernode's seeder listens.
    pub(crate) peer_port: u16,
    blobs: Authorizer,
    urls: Authorizer,
    offers: Offers,
    failing_sources: FailingSources,
    /// Small blobs that were asked for lately; all of them are on the disk as well.
    small: Cache<String, SmallContent>,
    /// By digest or URL; the lock is held while the source is asked, so that it is asked once.
    known: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<OpenSwarm>>>>>,
}

/// What a caller gets.
pub(crate) enum OpenContent {
    Small(SmallContent),
    Swarm(OpenSwarm),
}

/// A swarm that was opened before.
#[derive(Clone)]
pub(crate) struct OpenSwarm {
    pub(crate) handle: SwarmHandle,
    validator: String,
    ingest: Option<Arc<Ingest>>,
}

impl SwarmOpener {
    pub(crate) fn new(
        engine: Engine,
        source: Source,
        logins: RegistryLogins,
        signer: TicketSigner,
        tokens: TokenVerifier,
        public_layers: PublicLayers,
        peer_port: u16,
    ) -> Self {
        Self {
            public_layers,
            blobs: Authorizer::for_blobs(source.clone(), tokens),
            urls: Authorizer::for_urls(source.clone()),
            engine,
            source,
            logins,
            signer,
            peer_port,
            offers: Offers::new(),
            failing_sources: FailingSources::default(),
            small: Cache::builder()
                .max_capacity(MAX_SMALL)
                .weigher(|key: &String, small: &SmallContent| {
                    u32::try_from(key.len() + small.bytes().len()).unwrap_or(u32::MAX)
                })
                .build(),
            known: Mutex::new(HashMap::new()),
        }
    }

    /// The answer to a node. The source has then let this caller in at this URL.
    pub(crate) async fn open(&self, request: &OpenRequest) -> OpenResponse {
        let opened = match url_of(request) {
            Ok(url) => match self.consider_offer(&url, request).await {
                Ok(Some(wanted)) => return wanted,
                Ok(None) => self.swarm_of_reached(&url, request).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        self.answer(opened, request).await
    }

    async fn answer(
        &self,
        opened: Result<OpenContent, OpenError>,
        request: &OpenRequest,
    ) -> OpenResponse {
        match opened {
            Ok(OpenContent::Small(small)) => {
                let inline = Some(InlineContent(small.bytes().to_vec()));
                let (content, geometry) = (small.content(), small.geometry());
                OpenResponse::Open(self.describe(content, geometry, inline, request.peer_id))
            }
            Ok(OpenContent::Swarm(OpenSwarm {
                handle, validator, ..
            })) => {
                let geometry = handle.geometry();
                let inline = if geometry.length() <= InlineContent::MAX_LENGTH {
                    short_content(&handle).await
                } else {
                    None
                };
                let content = handle.content();
                let described = self.describe(content, geometry, inline, request.peer_id);
                let validator = request.digest.is_none().then_some(validator);
                OpenResponse::Open(SwarmDescriptor {
                    validator: validator.filter(|validator| !validator.is_empty()),
                    ..described
                })
            }
            Err(OpenError::Source(SourceError::Refused { status })) => OpenResponse::Refused {
                status,
                reason: "refused by the source".to_owned(),
            },
            Err(OpenError::Source(error)) => OpenResponse::Unswarmable {
                reason: error.to_string(),
            },
            Err(OpenError::Unswarmable(reason)) => OpenResponse::Unswarmable { reason },
            Err(OpenError::Elsewhere(Elsewhere { reason, seconds })) => {
                OpenResponse::Elsewhere { reason, seconds }
            }
        }
    }

    /// Opens what is asked for, or finds it open.
    pub(crate) async fn bring(&self, request: &OpenRequest) -> Result<OpenContent, OpenError> {
        self.swarm_for(&url_of(request)?, request).await
    }

    /// Takes the blob that this asked for when it was offered.
    pub(crate) async fn take(
        &self,
        swarm: &InfoHash,
        bytes: impl Stream<Item = Result<Bytes, axum::Error>>,
    ) -> Result<(), TakeError> {
        self.offers.take(&self.engine, swarm, bytes).await
    }

    /// The answer to an offer. None: nothing is offered, or the blob is here or on its way.
    async fn consider_offer(
        &self,
        url: &Url,
        request: &OpenRequest,
    ) -> Result<Option<OpenResponse>, OpenError> {
        let (Some(length), Some(digest)) = (request.offered, &request.digest) else {
            return Ok(None);
        };
        let content = ContentId::blob(digest);
        let key = self.key(url, request);
        let is_here = self.engine.store().has_content(&content);
        if is_here || self.small.contains_key(&key) {
            return Ok(None);
        }
        let geometry = Geometry::for_length(length)
            .map_err(|error| OpenError::Unswarmable(error.to_string()))?;
        self.blobs.check_blob(url, &request.headers, length).await?;
        let swarm = InfoHash::of_swarm(&content, &geometry);
        let wanted = OfferedBlob {
            url: url.clone(),
            digest: digest.clone(),
            length,
        };
        self.offers.want(swarm, wanted).await;
        let ticket = self.ticket(swarm, request.peer_id, TICKET_LIFETIME);
        Ok(Some(OpenResponse::Wanted { swarm, ticket }))
    }

    /// The swarm of content that was opened before, or is on the disk whole.
    pub(crate) fn running(&self, swarm: &InfoHash) -> Option<SwarmHandle> {
        self.engine.swarm(swarm)
    }

    /// The running swarm of a layer that is whole on the disk.
    pub(crate) async fn whole(&self, digest: &Digest) -> Option<SwarmHandle> {
        let content = ContentId::blob(digest);
        let engine = self.engine.clone();
        let found = tokio::task::spawn_blocking(move || {
            let unpacked = engine.unpack(&content).unwrap_or_else(|error| {
                tracing::warn!(%content, %error, "stored small blob not made a layer");
                None
            });
            unpacked.or_else(|| engine.store().layer(&content))
        });
        let layer = found.await.ok()??;
        layer.sealed()?;
        let known = self.run(layer.origin(), layer.content(), layer.geometry());
        let handle = known.await.ok()?.handle;
        handle.status().complete.then_some(handle)
    }

    /// As [`swarm_for`](Self::swarm_for), unless the source is known not to be reached.
    async fn swarm_of_reached(
        &self,
        url: &Url,
        request: &OpenRequest,
    ) -> Result<OpenContent, OpenError> {
        let source = origin_of(url);
        let began = Instant::now();
        let checked = self.failing_sources.check(&source, began);
        checked.map_err(OpenError::Elsewhere)?;
        let opened = self.swarm_for(url, request).await;
        let Err(OpenError::Source(error @ SourceError::Unreachable(_))) = &opened else {
            self.failing_sources.note_answer(&source);
            return opened;
        };
        let (now, reason) = (Instant::now(), error.to_string());
        let failing = &self.failing_sources;
        let elsewhere = failing.note_unreachable(&source, now, began.elapsed(), reason);
        Err(OpenError::Elsewhere(elsewhere))
    }

    async fn swarm_for(&self, url: &Url, request: &OpenRequest) -> Result<OpenContent, OpenError> {
        let key = self.key(url, request);
        if let Some(small) = self.small.get(&key).await {
            return self.give_small(small, url, request).await;
        }
        let slot = Arc::clone(self.lock_known().entry(key.clone()).or_default());
        let mut outdated = None;
        loop {
            let mut known = slot.lock().await;
            let usable = known
                .as_ref()
                .filter(|known| is_usable(&known.handle) && Some(known.handle.swarm()) != outdated)
                .cloned();
            let Some(found) = usable else {
                // The caller that had the slot before may have fetched it.
                if let Some(small) = self.small.get(&key).await {
                    drop(known);
                    return self.give_small(small, url, request).await;
                }
                return match self.open_at_source(url, request).await? {
                    OpenContent::Small(small) => {
                        self.small.insert(key, small.clone()).await;
                        self.engine.keep(small.clone(), &origin_of(url));
                        Ok(OpenContent::Small(small))
                    }
                    OpenContent::Swarm(opened) => {
                        *known = Some(opened.clone());
                        Ok(OpenContent::Swarm(opened))
                    }
                };
            };
            // Callers are checked side by side, each with his own credentials.
            drop(known);
            if self.is_current(&found, url, request).await? {
                // Another registry's credentials are not for this one.
                if let Some(ingest) = &found.ingest
                    && ingest.is_from(url)
                {
                    ingest.add_caller(url, &request.headers);
                }
                return Ok(OpenContent::Swarm(found));
            }
            outdated = Some(found.handle.swarm());
        }
    }

    async fn give_small(
        &self,
        small: SmallContent,
        url: &Url,
        request: &OpenRequest,
    ) -> Result<OpenContent, OpenError> {
        let length = small.geometry().length();
        self.blobs.check_blob(url, &request.headers, length).await?;
        Ok(OpenContent::Small(small))
    }

    /// Checks this caller at the source; for a plain URL, also whether the source still has
    /// what `known` delivers.
    async fn is_current(
        &self,
        known: &OpenSwarm,
        url: &Url,
        request: &OpenRequest,
    ) -> Result<bool, OpenError> {
        let store = self.engine.store();
        let same_source = store.check_origin(known.handle.layer().origin(), &origin_of(url));
        same_source.map_err(|error| OpenError::Unswarmable(error.to_string()))?;
        let length = known.handle.geometry().length();
        if request.digest.is_some() {
            self.blobs.check_blob(url, &request.headers, length).await?;
            return Ok(true);
        }
        let permission = self.urls.check(url, &request.headers).await?;
        Ok(permission.validator == known.validator
            && permission.total.is_none_or(|total| total == length))
    }

    /// What the callers of one content share. A registry of another caller's choice keeps no caller
    /// waiting: those that do not share their layers are opened side by side.
    fn key(&self, url: &Url, request: &OpenRequest) -> String {
        let Some(digest) = &request.digest else {
            return content_url(url, &request.filter_query).into();
        };
        let origin = origin_of(url);
        if self.engine.store().shared_origins().contains(&origin) {
            format!("shared {digest}")
        } else {
            format!("{origin} {digest}")
        }
    }

    fn describe(
        &self,
        content: &ContentId,
        geometry: Geometry,
        inline: Option<InlineContent>,
        peer_id: PeerId,
    ) -> SwarmDescriptor {
        let swarm = InfoHash::of_swarm(content, &geometry);
        SwarmDescriptor {
            swarm,
            content: content.clone(),
            length: geometry.length(),
            piece_length: geometry.piece_length(),
            delivery: if geometry.length() < MIN_SWARM {
                Delivery::Whole
            } else {
                Delivery::Pieces
            },
            ticket: self.ticket(swarm, peer_id, TICKET_LIFETIME),
            peer_port: self.peer_port,
            validator: None,
            inline,
        }
    }

    fn ticket(&self, swarm: InfoHash, peer_id: PeerId, lifetime: Duration) -> SignedTicket {
        let expires = unix_now().saturating_add(lifetime.as_secs());
        self.signer.sign(&Ticket {
            swarm,
            peer_id,
            expires,
        })
    }

    /// Lets go of swarms that have ended, whose layers' files would stay open. Those that are being opened
    /// are locked.
    fn forget_ended(&self) {
        self.known.lock().retain(|_, slot| {
            // A caller that waits for the slot opens it anew.
            Arc::strong_count(slot) > 1
                || slot.try_lock().map_or(true, |known| {
                    known.as_ref().is_none_or(|known| is_usable(&known.handle))
                })
        });
    }

    fn lock_known(
        &self,
    ) -> parking_lot::MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<Option<OpenSwarm>>>>>
    {
        let mut known = self.known.lock();
        // Entries without a waiting caller and whose swarm has ended are of no use.
        if known.len() > 10_000 {
            known.retain(|_, slot| {
                Arc::strong_count(slot) > 1
                    || slot.try_lock().is_ok_and(|known| {
                        known.as_ref().is_some_and(|known| is_usable(&known.handle))
                    })
            });
        }
        known
    }
}

/// The content, once it is here and was compared with its digest.
async fn short_content(handle: &SwarmHandle) -> Option<InlineContent> {
    let mut status = handle.watch();
    let settled =
        status.wait_for(|status| status.complete || matches!(status.state, SwarmState::Void(_)));
    if !settled.await.is_ok_and(|status| status.complete) {
        return None;
    }
    let layer = Arc::clone(handle.layer());
    let length = usize::try_from(handle.geometry().length()).ok()?;
    let read = tokio::task::spawn_blocking(move || layer.read(0, length));
    Some(InlineContent(read.await.ok()?.ok()?.into()))
}

/// Why no swarm was opened.
pub(crate) enum OpenError {
    Source(SourceError),
    Unswarmable(String),
    /// Another supernode may bring it.
    Elsewhere(Elsewhere),
}

impl From<Arc<SourceError>> for OpenError {
    fn from(error: Arc<SourceError>) -> Self {
        Self::Source(SourceError::clone(&error))
    }
}

impl From<SourceError> for OpenError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

fn url_of(request: &OpenRequest) -> Result<Url, OpenError> {
    match Url::parse(&request.url) {
        Ok(url) if !is_for(&url, request.digest.as_ref()) => Err(OpenError::Unswarmable(
            "the URL does not name the blob of this digest".to_owned(),
        )),
        Ok(url) => Ok(url),
        Err(error) => Err(OpenError::Unswarmable(error.to_string())),
    }
}

/// Whether `url` is the blob's with this very digest: what another URL answers says nothing about who
/// may have the blob, nor what is in it.
pub(crate) fn is_for(url: &Url, digest: Option<&Digest>) -> bool {
    digest.is_none_or(|digest| BlobUrl::of(url).is_some_and(|blob| blob.digest() == digest))
}

fn is_usable(handle: &SwarmHandle) -> bool {
    !handle.is_closed() && !matches!(handle.status().state, SwarmState::Void(_))
}
