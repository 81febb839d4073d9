//! A view again and again, as server-sent events (WHATWG HTML, "Server-sent events").

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::{IntoParams, IntoResponses};

use crate::reply::refusal;
use crate::stats::state::traffic::Span;
use crate::stats::views::schema::{Refused, failure, parameter};
use crate::stats::views::view::{SpanChoice, View, ViewError};
use crate::stats::web::Web;

const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// A stream takes less than this many bytes a second, whatever it shows.
const MAX_BYTES_PER_SECOND: u64 = 80_000;

struct Streaming {
    web: Arc<Web>,
    view: View,
    shutdown: CancellationToken,
    next: tokio::time::Instant,
    /// One of [`MAX_STREAMS`](crate::stats::web::MAX_STREAMS).
    _permit: OwnedSemaphorePermit,
}

/// A view every second, as server-sent events.
///
/// The data of each is {"totals": Totals, "view": …}: the view as its own path gives it, null for
/// totals. At most 64 streams; under 100 KB/s each.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    params(ViewChoice, SpanChoice),
    responses(
        (status = 200, description = "The answer.", body = String, content_type = "text/event-stream"),
        Refused,
        TooMany
    )
)]
pub(crate) async fn stream(State(web): State<Arc<Web>>, uri: Uri) -> Response {
    let view = match View::from_query(&uri) {
        Ok(view) => view,
        Err(error) => return error.into_response(),
    };
    let Ok(permit) = Arc::clone(&web.events.free).try_acquire_owned() else {
        let error = "too many pages are open; close one and load this one again";
        return refusal(StatusCode::SERVICE_UNAVAILABLE, error);
    };
    let streaming = Streaming {
        shutdown: web.events.shutdown.clone(),
        web,
        view,
        next: tokio::time::Instant::now(),
        _permit: permit,
    };
    let events = stream::unfold(streaming, |mut streaming| async move {
        let shutdown = streaming.shutdown.clone();
        let event = shutdown.run_until_cancelled(streaming.next()).await?;
        Some((Ok::<_, std::io::Error>(event), streaming))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from_stream(events)).into_response()
}

/// What a stream shows.
struct ViewChoice;

impl IntoParams for ViewChoice {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        vec![
            parameter(
                "view",
                "Totals by default; takes the parameters of its own path as well.",
                text().enum_values(Some(View::NAMES)).build(),
            ),
            parameter(
                "id",
                "Of a swarm or node, 40 hexadecimal digits; of a job, its number.",
                text().pattern(Some("^([0-9a-f]{40}|[0-9]+)$")).build(),
            ),
        ]
    }
}

/// Why a stream may not begin, besides [`Refused`].
struct TooMany;

impl IntoResponses for TooMany {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        BTreeMap::from([failure("503", "Too many streams are open.")])
    }
}

impl Streaming {
    async fn next(&mut self) -> Bytes {
        tokio::time::sleep_until(self.next).await;
        let (web, view) = (Arc::clone(&self.web), self.view.clone());
        let work = move || event(&web, &view, Instant::now());
        let text = tokio::task::spawn_blocking(work).await.unwrap_or_default();
        let size = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let pause = Duration::from_millis(size.saturating_mul(1000) / MAX_BYTES_PER_SECOND);
        self.next = tokio::time::Instant::now() + pause.max(UPDATE_INTERVAL);
        text.into()
    }
}

fn event(web: &Web, view: &View, now: Instant) -> String {
    let totals = match view {
        View::Totals(span) => View::Totals(*span),
        _ => View::Totals(Span::Live),
    };
    let data = match view {
        View::Totals(_) => Ok(serde_json::Value::Null),
        other => other.answer(web, now),
    };
    let message = match (totals.answer(web, now), data) {
        (Ok(totals), Ok(view)) => json!({ "totals": totals, "view": view }),
        (Ok(totals), Err(ViewError::Unknown)) => {
            json!({ "totals": totals, "view": null, "error": ViewError::Unknown.to_string() })
        }
        (_, Err(error)) | (Err(error), _) => json!({ "error": error.to_string() }),
    };
    // JSON has no line breaks in it.
    format!("data: {message}\n\n")
}
