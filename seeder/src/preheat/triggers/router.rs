//! The routes of all triggers, and which requests are let through to them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use super::state::Triggers;
use super::{dragonfly, dragonfly_v1, harbor_webhook, notifications};
use crate::api::server::Visit;
use crate::reply::refusal;

/// A registry collects events of a moment; each has a few KiB.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// The routes of all triggers.
pub(crate) fn router(triggers: Triggers) -> Router {
    let triggers = Arc::new(triggers);
    let health = Router::new()
        .route("/healthy", get(health))
        .route("/_ping", get(health))
        .route("/health", get(health));
    Router::new()
        .route("/oapi/v1/jobs", post(dragonfly::create))
        .route(
            "/oapi/v1/jobs/{id}",
            get(dragonfly::show).delete(dragonfly::cancel),
        )
        .route("/preheats", post(dragonfly_v1::create))
        .route(
            "/preheats/{id}",
            get(dragonfly_v1::show).delete(dragonfly_v1::cancel),
        )
        .route("/registry/notifications", post(notifications::take))
        .route("/webhooks/harbor", post(harbor_webhook::take))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&triggers),
            admitted_only,
        ))
        .merge(health)
        .with_state(triggers)
}

/// The health of all providers. A caller that shows a login learns whether it is right: Harbor's "test
/// connection" asks for nothing else.
async fn health(State(triggers): State<Arc<Triggers>>, request: Request) -> Response {
    let headers = request.headers();
    if triggers.shows_login(headers) && !triggers.may_trigger(headers) {
        return wrong_login();
    }
    axum::Json(serde_json::json!({ "status": "ok" })).into_response()
}

async fn admitted_only(
    State(triggers): State<Arc<Triggers>>,
    request: Request,
    next: Next,
) -> Response {
    if !triggers.may_trigger(request.headers()) {
        return wrong_login();
    }
    if let Some(visit) = request.extensions().get::<Arc<Visit>>() {
        visit.mark_member();
    }
    next.run(request).await
}

fn wrong_login() -> Response {
    let error = "login wrong or missing: show one that the supernode's operator has listed with --preheat-auth, or the cluster's join token as a bearer token";
    refusal(StatusCode::UNAUTHORIZED, error)
}
