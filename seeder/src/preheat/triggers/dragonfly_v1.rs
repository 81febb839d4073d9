//! The provider "Dragonfly" of Harbor 2.11 and earlier (harbor v2.11.0,
//! src/pkg/p2p/preheat/provider/dragonfly.go), which is the API of Dragonfly 1.
//!
//! Here an `ID` is a text. Harbor does not show `errorMsg`: it is for people who look.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, Path, State};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::authorization::authorization_of;
use super::error::TriggerError;
use super::reply::{job_answer, time_of};
use super::state::Triggers;
use crate::preheat::image_url::image_at;
use crate::preheat::jobs::{JobRecord, JobState};
use crate::reply::refusal;

#[derive(Deserialize)]
pub(super) struct CreatePreheat {
    #[serde(rename = "type")]
    kind: Option<String>,
    url: Option<String>,
    headers: Option<HashMap<String, Value>>,
}

#[derive(Serialize)]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PreheatProgress {
    #[serde(rename = "ID")]
    id: String,
    status: &'static str,
    start_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_time: Option<String>,
    error_msg: String,
}

pub(super) async fn create(
    State(triggers): State<Arc<Triggers>>,
    request: Result<Json<CreatePreheat>, JsonRejection>,
) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return refusal(rejection.status(), &rejection.body_text()),
    };
    match submit(&triggers, request).await {
        Ok(record) => {
            let id = record.id.to_string();
            Json(Created { id }).into_response()
        }
        Err(error) => error.answer(),
    }
}

pub(super) async fn show(
    State(triggers): State<Arc<Triggers>>,
    Path(id): Path<String>,
) -> Response {
    job_answer(triggers.job(&id).as_ref(), progress_of)
}

pub(super) async fn cancel(
    State(triggers): State<Arc<Triggers>>,
    Path(id): Path<String>,
) -> Response {
    job_answer(triggers.cancel_job(&id).await.as_ref(), progress_of)
}

async fn submit(triggers: &Triggers, request: CreatePreheat) -> Result<JobRecord, TriggerError> {
    // Harbor says what kind of artifact it is.
    if !matches!(request.kind.as_deref(), None | Some("" | "image" | "cnai")) {
        let error = "only preheats of the type image are taken";
        return Err(TriggerError::Malformed(error.to_owned()));
    }
    let image = image_at(request.url.as_deref().unwrap_or_default(), None)?;
    let authorization = authorization_of(request.headers)?;
    let preheat = triggers.request(vec![image]);
    Ok(triggers.jobs.submit(preheat, authorization).await?)
}

fn progress_of(record: &JobRecord) -> PreheatProgress {
    let status = match record.state {
        JobState::Pending => "WAITING",
        JobState::Running => "RUNNING",
        JobState::Success => "SUCCESS",
        JobState::Failure | JobState::Cancelled => "FAILED",
    };
    let finished = record.state.is_final().then_some(record.updated);
    PreheatProgress {
        id: record.id.to_string(),
        status,
        start_time: time_of(record.created),
        finish_time: finished.map(time_of),
        error_msg: record.cause.clone().unwrap_or_default(),
    }
}
