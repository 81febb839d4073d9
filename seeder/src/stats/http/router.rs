//! `/api/v1/`, `/metrics` and the page, over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;

use super::openapi::DOCUMENT;
use super::{api, events, login};
use crate::stats::page;
use crate::stats::web::Web;

/// The routes of the page and its API. All but the login are for those that
/// [`Access`](crate::stats::Access) lets in.
pub(crate) fn router(web: &Arc<Web>) -> Router {
    let guarded = Router::new()
        .route("/api/v1/totals", get(api::totals))
        .route("/api/v1/swarms", get(api::swarms))
        .route("/api/v1/swarms/{id}", get(api::swarm))
        .route("/api/v1/nodes", get(api::nodes))
        .route("/api/v1/nodes/{id}", get(api::node))
        .route("/api/v1/jobs", get(api::jobs))
        .route("/api/v1/jobs/{id}", get(api::job))
        .route("/api/v1/cluster", get(api::cluster))
        .route("/api/v1/{view}", get(api::no_such_view))
        .route("/api/v1/events", get(events::stream))
        .route("/api/v1/openapi.json", get(openapi))
        .route("/metrics", get(api::exposition))
        .merge(page::guarded_routes())
        .layer(middleware::from_fn_with_state(
            Arc::clone(web),
            login::viewers_only,
        ));
    guarded
        .merge(login::routes())
        .merge(page::public_routes())
        .with_state(Arc::clone(web))
}

async fn openapi() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        DOCUMENT.as_str(),
    )
}
