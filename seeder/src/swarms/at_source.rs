//! What the source is asked for the first caller, and what its answer leads to.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use flotilla_client::{EngineError, SmallContent, StoreError, SwarmHandle};
use flotilla_cluster::child_span;
use flotilla_cluster::messages::swarms::{InlineContent, OpenRequest};
use flotilla_cluster::{content_url, trace};
use flotilla_registry::origin_of;
use flotilla_registry::source::{Permission, SourceBody, SourceError};
use flotilla_torrents::{ContentId, Geometry, InfoHash};
use futures_util::StreamExt as _;
use tracing::field::Empty;
use url::Url;

use super::{OWN_TICKET_LIFETIME, OpenContent, OpenError, OpenSwarm, SwarmOpener};
use crate::swarms::failing_sources::{Elsewhere, OWN_DISK};
use crate::swarms::ingest::Ingest;

/// Seconds for which nodes leave alone a supernode whose layers in use take its whole quota.
const WITHOUT_ROOM: u32 = 5;
/// And one whose disk refuses: an operator has to act.
pub(crate) const WITHOUT_DISK: u32 = 30;

impl SwarmOpener {
    pub(super) async fn open_at_source(
        &self,
        url: &Url,
        request: &OpenRequest,
    ) -> Result<OpenContent, OpenError> {
        if let Some(digest) = &request.digest {
            let content = ContentId::blob(digest);
            let small = self.engine.small(&content, &origin_of(url)).await;
            if let Some(small) = small.map_err(|e| OpenError::Unswarmable(e.to_string()))? {
                let length = small.geometry().length();
                self.blobs.check_blob(url, &request.headers, length).await?;
                return Ok(OpenContent::Small(small));
            }
            let stored = self.engine.store().layer(&content);
            if let Some(layer) = stored.as_ref().filter(|layer| layer.sealed().is_some()) {
                // Whole on the disk from an earlier run.
                let length = layer.geometry().length();
                self.blobs.check_blob(url, &request.headers, length).await?;
                let origin = origin_of(url);
                let known = self.run(&origin, layer.content(), layer.geometry());
                let known = known.await?;
                return Ok(OpenContent::Swarm(known));
            }
            if let Some(layer) = stored {
                let geometry = layer.geometry();
                let known = self.run(&origin_of(url), layer.content(), geometry).await?;
                let next = geometry.piece(known.handle.status().known);
                let offset = next.map_or(0, |piece| geometry.piece_offset(piece));
                let body = self.source.open(url, &request.headers, offset).await?;
                if body.total.or(request.length) == Some(geometry.length()) {
                    let known = self.start(known.handle, url, request, body).await;
                    return Ok(OpenContent::Swarm(known));
                }
                return Err(OpenError::Unswarmable(
                    "the source names another length than before".to_owned(),
                ));
            }
        }
        let writable = self.failing_sources.check(OWN_DISK, Instant::now());
        writable.map_err(OpenError::Elsewhere)?;
        let body = self.source.open(url, &request.headers, 0).await?;
        let total = body.total.or(request.length).ok_or_else(|| {
            OpenError::Unswarmable("the source does not tell the length".to_owned())
        })?;
        let geometry = Geometry::for_length(total)
            .map_err(|error| OpenError::Unswarmable(error.to_string()))?;
        if request.digest.is_none() && body.validator.is_empty() {
            return Err(OpenError::Unswarmable(
                "the source gives neither ETag nor Last-Modified".to_owned(),
            ));
        }
        let content = match &request.digest {
            Some(digest) => ContentId::blob(digest),
            None => {
                let named = content_url(url, &request.filter_query);
                ContentId::url(named.as_str(), &body.validator, total)
            }
        };
        if request.digest.is_some() && total <= InlineContent::MAX_LENGTH {
            return self.read_small(content, geometry, url, request, body).await;
        }
        let known = self.run(&origin_of(url), &content, geometry).await?;
        known.handle.layer().note_url(url);
        let published = known.handle.status().known;
        let body = match geometry.piece(published) {
            Some(_) if published == 0 => body,
            // An earlier run has the beginning.
            Some(next) => {
                let validator = body.validator;
                let rest = self
                    .source
                    .open(url, &request.headers, geometry.piece_offset(next))
                    .await?;
                if rest.validator != validator || rest.total.or(request.length) != Some(total) {
                    return Err(OpenError::Unswarmable(
                        "the content at the source has just changed".to_owned(),
                    ));
                }
                rest
            }
            None => {
                return Ok(OpenContent::Swarm(OpenSwarm {
                    validator: body.validator,
                    ..known
                }));
            }
        };
        let known = self.start(known.handle, url, request, body).await;
        Ok(OpenContent::Swarm(known))
    }

    /// Takes a small blob as it comes, without a swarm.
    async fn read_small(
        &self,
        content: ContentId,
        geometry: Geometry,
        url: &Url,
        request: &OpenRequest,
        mut body: SourceBody,
    ) -> Result<OpenContent, OpenError> {
        let mut bytes = BytesMut::new();
        while let Some(part) = body.bytes.next().await {
            let part = part?;
            if (bytes.len() + part.len()) as u64 > geometry.length() {
                return Err(SourceError::Nonsense("more bytes than announced").into());
            }
            bytes.extend_from_slice(&part);
        }
        let small = SmallContent::verify(content, geometry, bytes.freeze());
        let small = small.ok_or(SourceError::Nonsense("the bytes do not match the digest"))?;
        let permission = Permission {
            total: Some(geometry.length()),
            is_content: true,
            validator: body.validator,
        };
        self.blobs.grant(url, &request.headers, permission).await;
        Ok(OpenContent::Small(small))
    }

    pub(super) async fn run(
        &self,
        origin: &str,
        content: &ContentId,
        geometry: Geometry,
    ) -> Result<OpenSwarm, OpenError> {
        let swarm = InfoHash::of_swarm(content, &geometry);
        let own = self.ticket(swarm, self.engine.peer_id(), OWN_TICKET_LIFETIME);
        let handle = self
            .engine
            .create_origin(content, geometry, origin, Some(own))
            .await;
        let handle = handle.map_err(|error| {
            let not_stored = not_stored(&error);
            if let OpenError::Elsewhere(Elsewhere { reason, seconds }) = &not_stored
                && *seconds == WITHOUT_DISK
            {
                self.failing_sources.note_own_disk(reason.clone());
            }
            not_stored
        })?;
        self.failing_sources.note_answer(OWN_DISK);
        // Those that had to make room.
        self.forget_ended();
        Ok(OpenSwarm {
            handle,
            validator: String::new(),
            ingest: None,
        })
    }

    /// Starts the ingest of what the source has begun to send.
    async fn start(
        &self,
        handle: SwarmHandle,
        url: &Url,
        request: &OpenRequest,
        body: SourceBody,
    ) -> OpenSwarm {
        let permission = Permission {
            total: body.total.or(request.length),
            is_content: true,
            validator: body.validator.clone(),
        };
        let authorizer = if request.digest.is_some() {
            &self.blobs
        } else {
            &self.urls
        };
        authorizer.grant(url, &request.headers, permission).await;
        let validator = body.validator.clone();
        let Some(origin) = handle.begin_ingest() else {
            return OpenSwarm {
                handle,
                validator,
                ingest: None,
            };
        };
        let (source, logins) = (self.source.clone(), self.logins.clone());
        let ingest = Ingest::new(source, logins, origin, validator.clone());
        ingest.add_caller(url, &request.headers);
        let ingest = Arc::new(ingest);
        tracing::info!(content = %handle.content(), bytes = handle.geometry().length(), "ingest");
        let running = Arc::clone(&ingest);
        let span = child_span!(
            "ingest",
            flotilla.content = %handle.content(),
            flotilla.bytes = trace::number(handle.geometry().length()),
            flotilla.ingest.sealed = Empty,
            otel.status_code = Empty,
        );
        let reading = trace::within(span, async move { running.run(body).await });
        tokio::spawn(reading);
        OpenSwarm {
            handle,
            validator,
            ingest: Some(ingest),
        }
    }
}

/// Another supernode may have the room, or the disk, that this one lacks.
fn not_stored(error: &EngineError) -> OpenError {
    let seconds = match error {
        EngineError::Store(StoreError::Full { .. }) => WITHOUT_ROOM,
        EngineError::Store(StoreError::Io { .. }) => WITHOUT_DISK,
        _ => return OpenError::Unswarmable(error.to_string()),
    };
    OpenError::Elsewhere(Elsewhere {
        reason: error.to_string(),
        seconds,
    })
}
