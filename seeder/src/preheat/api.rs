//! `POST /v1/preheats`: progress as lines of JSON until the layers seed.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Json, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use flotilla_cluster::messages::preheats::{PreheatEvent, PreheatRequest};
use futures_util::stream;
use tokio::sync::{Semaphore, mpsc};

use super::{Preheat, Preheater};

/// 256 images with long names.
const LARGEST_REQUEST: usize = 128 * 1024;
/// Requests under way at the same time.
const MOST_REQUESTS: usize = 16;
/// Events that wait for a caller who reads slowly.
const QUEUE: usize = 64;
/// A caller takes a supernode for dead that is silent for 2.5 of these.
const HEARTBEAT: Duration = Duration::from_secs(1);

struct Api {
    preheater: Preheater,
    permits: Arc<Semaphore>,
}

/// The route; whoever mounts it lets members of the cluster through only.
pub(crate) fn router(preheater: Preheater) -> Router {
    let api = Api {
        preheater,
        permits: Arc::new(Semaphore::new(MOST_REQUESTS)),
    };
    Router::new()
        .route(
            "/v1/preheats",
            post(preheat).layer(DefaultBodyLimit::max(LARGEST_REQUEST)),
        )
        .with_state(Arc::new(api))
}

async fn preheat(
    State(api): State<Arc<Api>>,
    request: Result<Json<PreheatRequest>, JsonRejection>,
) -> Response {
    let asked = match request {
        Ok(Json(request)) => Preheat::of_request(request),
        Err(rejection) => return refusal(rejection.status(), &rejection.body_text()),
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let Ok(permit) = Arc::clone(&api.permits).try_acquire_owned() else {
        return refusal(StatusCode::TOO_MANY_REQUESTS, "too many preheats at once");
    };
    let (events, told) = mpsc::channel(QUEUE);
    let preheater = api.preheater.clone();
    tokio::spawn(async move {
        // Who has left wants no further layers; those that are opened still arrive.
        tokio::select! {
            () = preheater.run(&asked, &events) => {}
            () = events.closed() => {}
        }
        drop(permit);
    });
    let lines = stream::unfold(told, async |mut told| {
        let event = match tokio::time::timeout(HEARTBEAT, told.recv()).await {
            Ok(told) => told?.event,
            Err(_) => PreheatEvent::Heartbeat {},
        };
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, std::io::Error>(Bytes::from(line)), told))
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(serde_json::json!({ "error": error }))).into_response()
}
