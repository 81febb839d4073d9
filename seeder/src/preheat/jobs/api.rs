//! Jobs for members of the cluster: `/v1/preheat-jobs`.

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Json, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use flotilla_cluster::messages::paths;
use flotilla_cluster::messages::preheats::{PreheatEvent, PreheatRequest};
use futures_util::{StreamExt as _, stream};

use super::{JobId, JobRecord, Jobs, SubmitError};
use crate::reply::{JsonBody, refusal};

/// 256 images with long names.
const MAX_REQUEST_BYTES: usize = 128 * 1024;
/// Jobs that are listed, the latest.
const MAX_LISTED: usize = 1000;

/// The routes; the code that mounts them lets members of the cluster through only.
pub(crate) fn router(jobs: Jobs) -> Router {
    Router::new()
        .route(paths::PREHEAT_JOBS, get(list).post(submit))
        .route(paths::PREHEAT_JOB, get(show).delete(cancel))
        .route(paths::PREHEAT_JOB_EVENTS, get(events))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(jobs)
}

impl SubmitError {
    /// The status of the answer to the caller.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::NotListed(_) => StatusCode::FORBIDDEN,
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::Disk(_) => StatusCode::INSUFFICIENT_STORAGE,
        }
    }
}

async fn submit(State(jobs): State<Jobs>, JsonBody(request): JsonBody<PreheatRequest>) -> Response {
    match jobs.submit(request, None).await {
        Ok(record) => Json(record.status()).into_response(),
        Err(error) => refusal(error.status(), &error.to_string()),
    }
}

async fn list(State(jobs): State<Jobs>) -> Response {
    let latest = jobs.latest(MAX_LISTED).into_iter();
    Json(latest.map(JobRecord::status).collect::<Vec<_>>()).into_response()
}

async fn show(State(jobs): State<Jobs>, Path(id): Path<String>) -> Response {
    status_or_unknown(id.parse().ok().and_then(|id| jobs.get(JobId(id))))
}

/// Lines of JSON: what has become of each layer, what becomes of the others, and the end.
async fn events(State(jobs): State<Jobs>, Path(id): Path<String>) -> Response {
    let Some(follower) = id.parse().ok().and_then(|id| jobs.follow(JobId(id))) else {
        return unknown();
    };
    let lines = stream::unfold(Some(follower), async |follower| {
        let mut follower = follower?;
        let event = follower.next().await;
        let goes_on = !matches!(event, PreheatEvent::Finished(_));
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        let line = Ok::<_, std::io::Error>(Bytes::from(line));
        Some((line, goes_on.then_some(follower)))
    });
    // Stopping waits for answers that go on.
    let lines = lines.take_until(jobs.shutdown().clone().cancelled_owned());
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

async fn cancel(State(jobs): State<Jobs>, Path(id): Path<String>) -> Response {
    status_or_unknown(match id.parse() {
        Ok(id) => jobs.cancel(JobId(id)).await,
        Err(_) => None,
    })
}

fn status_or_unknown(record: Option<JobRecord>) -> Response {
    match record {
        Some(record) => Json(record.status()).into_response(),
        None => unknown(),
    }
}

fn unknown() -> Response {
    refusal(StatusCode::NOT_FOUND, "no such preheat job")
}
