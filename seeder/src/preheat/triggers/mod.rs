//! Preheats that others than members of the cluster ask for: Harbor as its provider is called,
//! Harbor's webhooks, a registry's notifications.
//!
//! All of them make [jobs](super::jobs), of images at listed registries only.

mod dragonfly;
mod dragonfly_before;
mod harbor_webhook;
mod image_url;
mod logins;
mod notifications;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use flotilla_cluster::messages::preheats::PreheatRequest;

pub(super) use self::image_url::{ImageUrlError, image_at};
pub use self::logins::{TriggerLogins, TriggerLoginsError};
use super::jobs::{JobId, JobRecord, SubmitError};
use super::{Preheat, PreheatError};
use crate::api::server::Visit;
use crate::api::{Api, refusal};

/// A registry collects events of a moment; each has a few KiB.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// Who may ask for preheats without being a member of the cluster, and what is understood where
/// their requests do not say it.
///
/// # Defaults
/// Nobody but members, and whoever is on this host when the API listens on loopback; all platforms;
/// no nodes.
#[derive(Clone, Debug, Default)]
pub struct PreheatTriggers {
    /// What they show.
    pub logins: TriggerLogins,
    /// `OS/ARCHITECTURE[/VARIANT]`; none: all that an image has.
    pub platforms: Vec<String>,
    /// The nodes that are to have the layers as well, a glob of their names; none: no node.
    pub nodes: Option<String>,
}

impl PreheatTriggers {
    /// # Errors
    /// A platform or the nodes are not understood.
    pub(crate) fn check(&self) -> Result<(), PreheatError> {
        let image = "localhost/any".to_owned();
        Preheat::of_request(self.request(vec![image]))?;
        Ok(())
    }

    /// A preheat of `images` as far as the trigger does not say more.
    fn request(&self, images: Vec<String>) -> PreheatRequest {
        PreheatRequest {
            images,
            platforms: self.platforms.clone(),
            nodes: self.nodes.clone(),
            ..PreheatRequest::default()
        }
    }
}

/// The routes of all triggers.
pub(crate) fn router(api: &Arc<Api>) -> Router {
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
        .route("/preheats", post(dragonfly_before::create))
        .route(
            "/preheats/{id}",
            get(dragonfly_before::show).delete(dragonfly_before::cancel),
        )
        .route("/registry/notifications", post(notifications::take))
        .route("/webhooks/harbor", post(harbor_webhook::take))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .layer(middleware::from_fn_with_state(
            Arc::clone(api),
            admitted_only,
        ))
        .merge(health)
        .with_state(Arc::clone(api))
}

/// That of all providers. Who shows a login is told whether it is right: Harbor's "test
/// connection" asks for nothing else.
async fn health(State(api): State<Arc<Api>>, request: Request) -> Response {
    let headers = request.headers();
    let triggers = api.triggers.get();
    let tries = triggers.is_some_and(|triggers| triggers.logins.are_tried_by(headers));
    if tries && !api.may_trigger(headers) {
        return wrong_login();
    }
    axum::Json(serde_json::json!({ "status": "ok" })).into_response()
}

async fn admitted_only(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if !api.may_trigger(request.headers()) {
        return wrong_login();
    }
    if let Some(visit) = request.extensions().get::<Arc<Visit>>() {
        visit.is_member_s();
    }
    next.run(request).await
}

fn wrong_login() -> Response {
    let error = "login wrong or missing: show one that the supernode's operator has listed with --preheat-auth, or the cluster's join token as a bearer token";
    refusal(StatusCode::UNAUTHORIZED, error)
}

/// Why a trigger's request leads to no job.
#[derive(Debug, thiserror::Error)]
enum TriggerError {
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Image(#[from] ImageUrlError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl TriggerError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Image(_) => StatusCode::BAD_REQUEST,
            Self::Submit(error) => error.status(),
        }
    }

    fn answer(&self) -> Response {
        refusal(self.status(), &self.to_string())
    }
}

impl Api {
    /// What is understood of images that a trigger names.
    fn triggered(&self, images: Vec<String>) -> PreheatRequest {
        match self.triggers.get() {
            Some(triggers) => triggers.request(images),
            None => PreheatTriggers::default().request(images),
        }
    }

    fn job(&self, id: &str) -> Option<JobRecord> {
        self.jobs.get(id.parse().ok().map(JobId)?)
    }

    async fn cancel_job(&self, id: &str) -> Option<JobRecord> {
        self.jobs.cancel(id.parse().ok().map(JobId)?).await
    }
}

fn no_such_job() -> Response {
    refusal(StatusCode::NOT_FOUND, "no such preheat job")
}

/// RFC 3339, as Go reads times.
fn time_of(seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}
