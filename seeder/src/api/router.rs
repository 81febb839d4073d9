//! Every route of a supernode, and which of them are for members.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Json, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use flotilla_cluster::messages::paths;

use crate::api::server::Visit;
use crate::api::state::Api;
use crate::api::swarms;
use crate::preheat::triggers::{self, Triggers};
use crate::preheat::{jobs, orders};
use crate::public::torrents as public_torrents;
use crate::reply::refusal;
use crate::stats;

/// Every route of a supernode.
pub(crate) fn router(api: &Arc<Api>, triggers: Triggers) -> Router {
    let members = swarms::routes()
        .merge(public_torrents::members_routes())
        .with_state(Arc::clone(api))
        .merge(orders::api::router(api.jobs.clone()))
        .merge(jobs::api::router(api.jobs.clone()))
        .layer(middleware::from_fn_with_state(
            Arc::clone(api),
            members_only,
        ));
    Router::new()
        .route(
            paths::HEALTH,
            get(async || Json(serde_json::json!({ "status": "ok" }))),
        )
        .merge(api.tracker.router())
        .merge(public_torrents::public_routes().with_state(Arc::clone(api)))
        .merge(triggers::router::router(triggers))
        .merge(members)
        .merge(stats::router(&api.web))
        .layer(middleware::from_fn_with_state(Arc::clone(api), note_member))
}

/// Nodes announce themselves with the join token too, on connections that they keep.
async fn note_member(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if let Some(visit) = request.extensions().get::<Arc<Visit>>()
        && api.join_token.admits(request.headers())
    {
        visit.mark_member();
    }
    next.run(request).await
}

async fn members_only(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if api.join_token.admits(request.headers()) {
        return next.run(request).await;
    }
    refusal(StatusCode::UNAUTHORIZED, "join token wrong or missing")
}
