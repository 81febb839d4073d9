//! The answers of `/api/v1/`, and `/metrics`, over HTTP.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::metrics;
use crate::reply::refusal;
use crate::stats::views::job_rows::{JobKey, JobRow, JobView};
use crate::stats::views::listing::{Choice, NodeKey, Page, PartKey, SwarmKey};
use crate::stats::views::rows::{NodeRow, SwarmRow};
use crate::stats::views::schema::{Id, Refused, RefusedOrUnknown};
use crate::stats::views::view::{
    Cluster, NodeView, SpanChoice, SwarmView, Totals, View, ViewError,
};
use crate::stats::web::Web;

/// Sums over all swarms and nodes.
#[utoipa::path(
    get,
    path = "/api/v1/totals",
    params(SpanChoice),
    responses((status = 200, description = "The answer.", body = Totals), Refused)
)]
pub(in crate::stats) async fn totals(State(web): State<Arc<Web>>, uri: Uri) -> Response {
    answer(&web, View::named("totals", "", &uri)).await
}

/// The swarms.
#[utoipa::path(
    get,
    path = "/api/v1/swarms",
    params(Choice<SwarmKey>),
    responses((status = 200, description = "The answer.", body = Page<SwarmRow>), Refused)
)]
pub(in crate::stats) async fn swarms(State(web): State<Arc<Web>>, uri: Uri) -> Response {
    answer(&web, View::named("swarms", "", &uri)).await
}

/// One swarm; the parameters choose its peers.
#[utoipa::path(
    get,
    path = "/api/v1/swarms/{id}",
    params(("id" = inline(Id), Path), Choice<PartKey>),
    responses((status = 200, description = "The answer.", body = SwarmView), RefusedOrUnknown)
)]
pub(in crate::stats) async fn swarm(
    State(web): State<Arc<Web>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Response {
    answer(&web, View::named("swarm", &id, &uri)).await
}

/// The nodes.
#[utoipa::path(
    get,
    path = "/api/v1/nodes",
    params(Choice<NodeKey>),
    responses((status = 200, description = "The answer.", body = Page<NodeRow>), Refused)
)]
pub(in crate::stats) async fn nodes(State(web): State<Arc<Web>>, uri: Uri) -> Response {
    answer(&web, View::named("nodes", "", &uri)).await
}

/// One node; the parameters choose its pulls.
#[utoipa::path(
    get,
    path = "/api/v1/nodes/{id}",
    params(("id" = inline(Id), Path), Choice<PartKey>),
    responses((status = 200, description = "The answer.", body = NodeView), RefusedOrUnknown)
)]
pub(in crate::stats) async fn node(
    State(web): State<Arc<Web>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Response {
    answer(&web, View::named("node", &id, &uri)).await
}

/// The preheat jobs that are kept: the unfinished, and the finished of the last day.
#[utoipa::path(
    get,
    path = "/api/v1/jobs",
    params(Choice<JobKey>),
    responses((status = 200, description = "The answer.", body = Page<JobRow>), Refused)
)]
pub(in crate::stats) async fn jobs(State(web): State<Arc<Web>>, uri: Uri) -> Response {
    answer(&web, View::named("jobs", "", &uri)).await
}

/// One preheat job, and what has become of its layers.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}",
    params(("id" = u64, Path)),
    responses((status = 200, description = "The answer.", body = JobView), RefusedOrUnknown)
)]
pub(in crate::stats) async fn job(
    State(web): State<Arc<Web>>,
    Path(id): Path<String>,
    uri: Uri,
) -> Response {
    answer(&web, View::named("job", &id, &uri)).await
}

/// This supernode, and those that the nodes know.
#[utoipa::path(
    get,
    path = "/api/v1/cluster",
    responses((status = 200, description = "The answer.", body = Cluster), Refused)
)]
pub(in crate::stats) async fn cluster(State(web): State<Arc<Web>>, uri: Uri) -> Response {
    answer(&web, View::named("cluster", "", &uri)).await
}

pub(in crate::stats) async fn no_such_view() -> Response {
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

/// Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, description = "The answer.", body = String, content_type = "text/plain"),
        Refused
    )
)]
pub(in crate::stats) async fn exposition(State(web): State<Arc<Web>>) -> impl IntoResponse {
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
