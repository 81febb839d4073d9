//! `/v1/orders`: nodes come for what they are to have.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Json, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use flotilla_cluster::messages::orders::{OpenOrdered, OrderEvent, OrderOutcome, TakeOrders};
use flotilla_cluster::messages::paths;
use flotilla_cluster::messages::swarms::OpenResponse;
use futures_util::{StreamExt as _, stream};

use super::{EnterError, Visit};
use crate::preheat::jobs::{JobId, Jobs};
use crate::reply::{JsonBody, refusal};

/// A node takes a supernode for dead that is silent for 2.5 of these.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// For members.
pub(crate) fn router(jobs: Jobs) -> Router {
    Router::new()
        .route(paths::ORDERS, post(take))
        .route(paths::ORDERED_SWARMS, post(open))
        .route(paths::ORDER_OUTCOMES, post(note))
        .with_state(jobs)
}

async fn take(State(jobs): State<Jobs>, JsonBody(node): JsonBody<TakeOrders>) -> Response {
    let visit = match jobs.orders().enter(node) {
        Ok(visit) => visit,
        Err(error @ EnterError::Name) => {
            return refusal(StatusCode::BAD_REQUEST, &error.to_string());
        }
        Err(error @ EnterError::Full) => {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
        }
    };
    // At once, so that the node knows where it is.
    let first = Some(OrderEvent::Heartbeat {});
    let lines = stream::unfold((visit, first), async |(mut visit, first)| {
        let event = match first {
            Some(event) => event,
            None => next(&mut visit).await?,
        };
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, std::io::Error>(Bytes::from(line)), (visit, None)))
    });
    // Stopping waits for answers that go on.
    let lines = lines.take_until(jobs.shutdown().clone().cancelled_owned());
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines),
    )
        .into_response()
}

async fn next(visit: &mut Visit) -> Option<OrderEvent> {
    match tokio::time::timeout(HEARTBEAT_INTERVAL, visit.events.recv()).await {
        Ok(event) => event,
        Err(_) => Some(OrderEvent::Heartbeat {}),
    }
}

async fn open(
    State(jobs): State<Jobs>,
    Path(job): Path<u64>,
    JsonBody(asked): JsonBody<OpenOrdered>,
) -> Response {
    let Some(layer) = jobs.orders().ordered(JobId(job), &asked) else {
        let reason = "this node has no such order".to_owned();
        let status = StatusCode::NOT_FOUND.as_u16();
        return Json(OpenResponse::Refused { status, reason }).into_response();
    };
    let filter_query = jobs.with_job(JobId(job), |_, job| job.filter_query().to_vec());
    let preheater = jobs.preheater();
    let answer = preheater.open_ordered(asked, layer.url, filter_query.unwrap_or_default());
    Json(answer.await).into_response()
}

async fn note(
    State(jobs): State<Jobs>,
    Path(job): Path<u64>,
    JsonBody(outcome): JsonBody<OrderOutcome>,
) -> Response {
    // One without a waiting job is no fault of the node.
    let is_waited_for = jobs.orders().note(JobId(job), outcome);
    Json(serde_json::json!({ "waited_for": is_waited_for })).into_response()
}
