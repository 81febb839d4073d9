//! `/v1/hello` and `/v1/swarms`: how nodes come into swarms, and what they get and give there.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Json, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use flotilla_client::{SpoolError, SwarmHandle, SwarmState};
use flotilla_cluster::messages::paths;
use flotilla_cluster::messages::swarms::{
    Hello, OpenRequest, OpenResponse, PieceHashes, SwarmEvent,
};
use flotilla_cluster::trace;
use futures_util::{Stream, StreamExt as _, stream};
use tracing::field::Empty;

use crate::api::admitted::{Admitted, AdmittedTo};
use crate::api::state::Api;
use crate::public::torrents as public_torrents;
use crate::reply::{JsonBody, refusal};
use crate::swarms::offers::TakeError;
use crate::swarms::{WITHOUT_DISK, sealed_torrent};

/// An open request carries credentials of up to 16 KiB each.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// A node takes a supernode for dead that is silent for 2.5 of these.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// White space in front of an answer that waits for the source.
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(500);

/// For members.
pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route(paths::HELLO, get(hello))
        .route(
            paths::SWARMS,
            post(open).layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES)),
        )
        .route(paths::SWARM_EVENTS, get(events))
        .route(paths::SWARM_CONTENT, get(content).put(take))
        .route(paths::SWARM_TORRENT, get(torrent))
}

async fn hello(State(api): State<Arc<Api>>) -> Json<Hello> {
    Json(Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        peer_id: api.opener.engine.peer_id(),
        ticket_key: api.ticket_key,
        peer_port: api.opener.peer_port,
        shared_origins: api.opener.engine.store().shared_origins(),
    })
}

/// Answers when the source has; until then white space tells the node that this supernode
/// lives. The work continues when the node that asked first goes away: others wait for it.
async fn open(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<OpenRequest>,
) -> Response {
    let span = traced_open(&request, &headers);
    let opening = tokio::spawn(trace::within(span, async move {
        let answer = api.opener.open(&request).await;
        note_answer(&answer);
        api.web.statistics.note_open(&request, &answer);
        public_torrents::note_open(&api, &request, &answer).await;
        serde_json::to_vec(&answer).unwrap_or_default()
    }));
    let body = stream::unfold(Some(opening), |opening| async {
        let mut opening = opening?;
        match tokio::time::timeout(KEEPALIVE_INTERVAL, &mut opening).await {
            Ok(Ok(answer)) => Some((Ok::<_, std::io::Error>(Bytes::from(answer)), None)),
            Ok(Err(error)) => Some((Err(std::io::Error::other(error)), None)),
            Err(_) => Some((Ok(Bytes::from_static(b" ")), Some(opening))),
        }
    });
    (
        [(header::CONTENT_TYPE, "application/json")],
        Body::from_stream(body),
    )
        .into_response()
}

/// The span of a member's request for a swarm.
fn traced_open(request: &OpenRequest, headers: &HeaderMap) -> tracing::Span {
    let span = tracing::info_span!(
        target: trace::TARGET,
        parent: None,
        "POST",
        otel.name = "POST /v1/swarms",
        otel.kind = "server",
        http.request.method = "POST",
        http.route = paths::SWARMS,
        url.path = paths::SWARMS,
        // The body says so when the source refuses.
        http.response.status_code = i64::from(StatusCode::OK.as_u16()),
        flotilla.digest = Empty,
        flotilla.opened = Empty,
    );
    trace::received(&span, headers);
    if let Some(digest) = &request.digest {
        span.record("flotilla.digest", tracing::field::display(digest));
    }
    span
}

fn note_answer(answer: &OpenResponse) {
    let opened = match answer {
        OpenResponse::Open(_) => "swarm",
        OpenResponse::Wanted { .. } => "wanted",
        OpenResponse::Refused { .. } => "refused",
        OpenResponse::Elsewhere { .. } => "elsewhere",
        OpenResponse::Unswarmable { .. } => "unswarmable",
    };
    trace::current().record("flotilla.opened", opened);
}

async fn events(AdmittedTo(handle): AdmittedTo) -> Response {
    let lines = event_stream(handle).map(|event| {
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        Ok::<_, std::io::Error>(Bytes::from(line))
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

/// The events of a swarm from its beginning; ends after it is sealed or void.
fn event_stream(handle: SwarmHandle) -> impl Stream<Item = SwarmEvent> + Send {
    let status = handle.watch();
    stream::unfold(Some((handle, status, 0_u32)), |state| async {
        let (handle, mut status, mut sent) = state?;
        let beat = tokio::time::Instant::now() + HEARTBEAT_INTERVAL;
        loop {
            let now = status.borrow_and_update().clone();
            if let SwarmState::Void(reason) = now.state {
                if handle.is_elsewhere() {
                    let seconds = WITHOUT_DISK;
                    return Some((SwarmEvent::Elsewhere { reason, seconds }, None));
                }
                let first_wrong = handle.first_wrong().map(|piece| piece.get());
                let void = SwarmEvent::Void {
                    reason,
                    first_wrong,
                };
                return Some((void, None));
            }
            if now.known > sent {
                let hashes = handle.hashes_from(sent);
                let first = sent;
                sent = sent.saturating_add(u32::try_from(hashes.len()).unwrap_or(u32::MAX));
                let event = SwarmEvent::Pieces {
                    first,
                    hashes: PieceHashes(hashes),
                };
                return Some((event, Some((handle, status, sent))));
            }
            if let SwarmState::Sealed(sha256) = now.state {
                let torrent = sealed_torrent(&handle.piece_map(), &handle);
                let info_hash = torrent.map_or(handle.swarm(), |torrent| torrent.info_hash());
                return Some((SwarmEvent::Sealed { info_hash, sha256 }, None));
            }
            if handle.is_closed() {
                return None;
            }
            let changed = async {
                tokio::select! {
                    changed = status.changed() => changed.is_ok(),
                    () = handle.closed() => false,
                }
            };
            match tokio::time::timeout_at(beat, changed).await {
                Ok(true) => {}
                Ok(false) if matches!(handle.status().state, SwarmState::Void(_)) => {}
                Ok(false) => return None,
                Err(_) => return Some((SwarmEvent::Heartbeat {}, Some((handle, status, sent)))),
            }
        }
    })
}

/// Small content, whole, as soon as it was compared with its digest.
async fn content(AdmittedTo(handle): AdmittedTo) -> Response {
    let mut status = handle.watch();
    let settled =
        status.wait_for(|status| status.complete || matches!(status.state, SwarmState::Void(_)));
    match settled.await.map(|status| status.complete) {
        Ok(true) => {}
        _ => return refusal(StatusCode::GONE, "the content could not be fetched"),
    }
    let length = handle.geometry().length();
    let body = Body::from_stream(handle.read(0..length));
    ([(header::CONTENT_LENGTH, length)], body).into_response()
}

/// A blob that was offered; 200 when it is complete here.
async fn take(State(api): State<Arc<Api>>, Admitted(swarm): Admitted, body: Body) -> Response {
    match api.opener.take(&swarm, body.into_data_stream()).await {
        Ok(()) => Json(serde_json::json!({})).into_response(),
        Err(error) => {
            tracing::warn!(%swarm, %error, "offered blob not stored");
            let status = match error {
                TakeError::NotOffered => StatusCode::NOT_FOUND,
                TakeError::Busy | TakeError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
                TakeError::Silent => StatusCode::REQUEST_TIMEOUT,
                TakeError::BrokeOff(_) | TakeError::Length(_) => StatusCode::BAD_REQUEST,
                TakeError::Spool(SpoolError::OtherBytes { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
                TakeError::Spool(_) => StatusCode::INSUFFICIENT_STORAGE,
            };
            refusal(status, &error.to_string())
        }
    }
}

async fn torrent(AdmittedTo(handle): AdmittedTo) -> Response {
    if !matches!(handle.status().state, SwarmState::Sealed(_)) {
        return refusal(StatusCode::CONFLICT, "the swarm is not complete yet");
    }
    match sealed_torrent(&handle.piece_map(), &handle) {
        Ok(torrent) => public_torrents::torrent_response(&torrent),
        Err(reason) => refusal(StatusCode::CONFLICT, &reason),
    }
}
