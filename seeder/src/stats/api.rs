//! `/api/v1/`, `/metrics` and the page, over HTTP.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::access::{self, Access};
use super::job_rows::JobList;
use super::view::{View, ViewError};
use super::{Statistics, events, metrics, page};
use crate::api::refusal;

/// The API's description.
const OPENAPI: &str = include_str!("openapi.json");

/// What the handlers share.
pub(crate) struct Web {
    pub(crate) statistics: Statistics,
    pub(crate) jobs: JobList,
    pub(crate) access: Access,
    pub(crate) events: events::Events,
}

/// The routes of the page and its API. All but the login are for those that [`Access`] lets in.
pub(crate) fn router(web: &Arc<Web>) -> Router {
    let guarded = Router::new()
        .route("/api/v1/{view}", get(list))
        .route("/api/v1/swarms/{id}", get(swarm))
        .route("/api/v1/nodes/{id}", get(node))
        .route("/api/v1/jobs/{id}", get(job))
        .route("/api/v1/events", get(events::stream))
        .route("/api/v1/openapi.json", get(openapi))
        .route("/metrics", get(exposition))
        .merge(page::guarded_routes())
        .layer(middleware::from_fn_with_state(
            Arc::clone(web),
            access::viewers_only,
        ));
    guarded
        .merge(access::login_routes())
        .merge(page::public_routes())
        .with_state(Arc::clone(web))
}

async fn list(State(web): State<Arc<Web>>, Path(view): Path<String>, uri: Uri) -> Response {
    match view.as_str() {
        "totals" | "swarms" | "nodes" | "jobs" | "cluster" => {
            answer(&web, View::named(&view, "", &uri)).await
        }
        _ => refusal(
            StatusCode::NOT_FOUND,
            "no such list; see /api/v1/openapi.json",
        ),
    }
}

async fn swarm(State(web): State<Arc<Web>>, Path(id): Path<String>, uri: Uri) -> Response {
    answer(&web, View::named("swarm", &id, &uri)).await
}

async fn node(State(web): State<Arc<Web>>, Path(id): Path<String>, uri: Uri) -> Response {
    answer(&web, View::named("node", &id, &uri)).await
}

async fn job(State(web): State<Arc<Web>>, Path(id): Path<String>, uri: Uri) -> Response {
    answer(&web, View::named("job", &id, &uri)).await
}

async fn answer(web: &Arc<Web>, view: Result<View, ViewError>) -> Response {
    let web = Arc::clone(web);
    let made = match view {
        // Thousands of rows are sorted: not on a reactor thread.
        Ok(view) => {
            let work = move || view.answer(&web, Instant::now());
            match tokio::task::spawn_blocking(work).await {
                Ok(made) => made,
                Err(error) => Err(ViewError::Query(error.to_string())),
            }
        }
        Err(error) => Err(error),
    };
    match made {
        Ok(answer) => ([(header::CACHE_CONTROL, "no-store")], axum::Json(answer)).into_response(),
        Err(error) => error.into_response(),
    }
}

impl IntoResponse for ViewError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Query(_) | Self::Kind | Self::Id | Self::JobId => StatusCode::BAD_REQUEST,
            Self::Unknown => StatusCode::NOT_FOUND,
        };
        refusal(status, &self.to_string())
    }
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn exposition(State(web): State<Arc<Web>>) -> impl IntoResponse {
    let statistics = web.statistics.clone();
    let text = tokio::task::spawn_blocking(move || metrics::supernode(&statistics, Instant::now()));
    let text = text.await.unwrap_or_default();
    (
        [(
            header::CONTENT_TYPE,
            flotilla_cluster::exposition::CONTENT_TYPE,
        )],
        text,
    )
}
