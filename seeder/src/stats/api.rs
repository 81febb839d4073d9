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
use super::job_rows::{JobKey, JobList, JobRow, JobView};
use super::listing::{Choice, NodeKey, Page, PartKey, SwarmKey};
use super::openapi::{DOCUMENT, Id, Refused, RefusedOrUnknown};
use super::rows::{NodeRow, SwarmRow};
use super::view::{Cluster, NodeView, SpanChoice, SwarmView, Totals, View, ViewError};
use super::{Statistics, events, metrics, page};
use crate::api::refusal;

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
        .route("/api/v1/totals", get(totals))
        .route("/api/v1/swarms", get(swarms))
        .route("/api/v1/swarms/{id}", get(swarm))
        .route("/api/v1/nodes", get(nodes))
        .route("/api/v1/nodes/{id}", get(node))
        .route("/api/v1/jobs", get(jobs))
        .route("/api/v1/jobs/{id}", get(job))
        .route("/api/v1/cluster", get(cluster))
        .route("/api/v1/{view}", get(no_such_view))
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

/// Sums over all swarms and nodes.
#[utoipa::path(
    get,
    path = "/api/v1/totals",
    params(SpanChoice),
    responses((status = 200, description = "The answer.", body = Totals), Refused)
)]
async fn totals(State(web): State<Arc<Web>>, uri: Uri) -> Response {
    answer(&web, View::named("totals", "", &uri)).await
}

/// The swarms.
#[utoipa::path(
    get,
    path = "/api/v1/swarms",
    params(Choice<SwarmKey>),
    responses((status = 200, description = "The answer.", body = Page<SwarmRow>), Refused)
)]
async fn swarms(State(web): State<Arc<Web>>, uri: Uri) -> Response {
    answer(&web, View::named("swarms", "", &uri)).await
}

/// One swarm; the parameters choose its peers.
#[utoipa::path(
    get,
    path = "/api/v1/swarms/{id}",
    params(("id" = inline(Id), Path), Choice<PartKey>),
    responses((status = 200, description = "The answer.", body = SwarmView), RefusedOrUnknown)
)]
async fn swarm(State(web): State<Arc<Web>>, Path(id): Path<String>, uri: Uri) -> Response {
    answer(&web, View::named("swarm", &id, &uri)).await
}

/// The nodes.
#[utoipa::path(
    get,
    path = "/api/v1/nodes",
    params(Choice<NodeKey>),
    responses((status = 200, description = "The answer.", body = Page<NodeRow>), Refused)
)]
async fn nodes(State(web): State<Arc<Web>>, uri: Uri) -> Response {
    answer(&web, View::named("nodes", "", &uri)).await
}

/// One node; the parameters choose its pulls.
#[utoipa::path(
    get,
    path = "/api/v1/nodes/{id}",
    params(("id" = inline(Id), Path), Choice<PartKey>),
    responses((status = 200, description = "The answer.", body = NodeView), RefusedOrUnknown)
)]
async fn node(State(web): State<Arc<Web>>, Path(id): Path<String>, uri: Uri) -> Response {
    answer(&web, View::named("node", &id, &uri)).await
}

/// The preheat jobs that are kept: the unfinished, and the finished of the last day.
#[utoipa::path(
    get,
    path = "/api/v1/jobs",
    params(Choice<JobKey>),
    responses((status = 200, description = "The answer.", body = Page<JobRow>), Refused)
)]
async fn jobs(State(web): State<Arc<Web>>, uri: Uri) -> Response {
    answer(&web, View::named("jobs", "", &uri)).await
}

/// One preheat job, and what has become of its layers.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}",
    params(("id" = u64, Path)),
    responses((status = 200, description = "The answer.", body = JobView), RefusedOrUnknown)
)]
async fn job(State(web): State<Arc<Web>>, Path(id): Path<String>, uri: Uri) -> Response {
    answer(&web, View::named("job", &id, &uri)).await
}

/// This supernode, and those that the nodes know.
#[utoipa::path(
    get,
    path = "/api/v1/cluster",
    responses((status = 200, description = "The answer.", body = Cluster), Refused)
)]
async fn cluster(State(web): State<Arc<Web>>, uri: Uri) -> Response {
    answer(&web, View::named("cluster", "", &uri)).await
}

async fn no_such_view() -> Response {
    let error = "no such list; see /api/v1/openapi.json";
    refusal(StatusCode::NOT_FOUND, error)
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
    (
        [(header::CONTENT_TYPE, "application/json")],
        DOCUMENT.as_str(),
    )
}

/// Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, description = "The answer.", body = String, content_type = "text/plain"),
        Refused
    )
)]
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
