//! The provider "Dragonfly" of Harbor 2.12 and later (harbor,
//! src/pkg/p2p/preheat/provider/dragonfly.go).
//!
//! `id` is a number, times are RFC 3339, `state` is PENDING, SUCCESS or FAILURE: anything else fails
//! the job there. So does any status but 2xx, with the body in the job's log.

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
use crate::preheat::jobs::{JobOutcome, JobRecord, JobState};
use crate::reply::refusal;

const EVERY_NODE: &str = "*";
/// What the supernode is called among nodes.
const SUPERNODE: &str = "supernode";

/// Go writes `null` and zeros for what is not set.
#[derive(Deserialize)]
pub(super) struct CreateJob {
    #[serde(rename = "type")]
    kind: Option<String>,
    args: Option<Arguments>,
}

#[derive(Deserialize)]
struct Arguments {
    #[serde(rename = "type")]
    kind: Option<String>,
    url: Option<String>,
    /// `OS/ARCHITECTURE`; Harbor sends none.
    platform: Option<String>,
    headers: Option<HashMap<String, Value>>,
    scope: Option<String>,
}

#[derive(Serialize)]
struct Job {
    id: u64,
    created_at: String,
    updated_at: String,
    state: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    args: HashMap<String, String>,
    result: Option<JobResult>,
}

#[derive(Serialize)]
struct JobResult {
    job_states: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    error: String,
    results: Vec<ClusterResult>,
}

#[derive(Serialize)]
struct ClusterResult {
    scheduler_cluster_id: u32,
    success_tasks: Vec<Task>,
    failure_tasks: Vec<Task>,
}

#[derive(Serialize)]
struct Task {
    url: String,
    hostname: String,
    ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

pub(super) async fn create(
    State(triggers): State<Arc<Triggers>>,
    request: Result<Json<CreateJob>, JsonRejection>,
) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(rejection) => return refusal(rejection.status(), &rejection.body_text()),
    };
    match submit(&triggers, request).await {
        Ok(record) => Json(to_job(&record)).into_response(),
        Err(error) => error.answer(),
    }
}

pub(super) async fn show(
    State(triggers): State<Arc<Triggers>>,
    Path(id): Path<String>,
) -> Response {
    job_answer(triggers.job(&id).as_ref(), to_job)
}

pub(super) async fn cancel(
    State(triggers): State<Arc<Triggers>>,
    Path(id): Path<String>,
) -> Response {
    job_answer(triggers.cancel_job(&id).await.as_ref(), to_job)
}

async fn submit(triggers: &Triggers, request: CreateJob) -> Result<JobRecord, TriggerError> {
    let malformed = |error: &str| TriggerError::Malformed(error.to_owned());
    if !matches!(request.kind.as_deref(), None | Some("" | "preheat")) {
        return Err(malformed("only jobs of the type preheat are taken"));
    }
    let args = request.args.ok_or_else(|| malformed("args are missing"))?;
    if !matches!(args.kind.as_deref(), None | Some("" | "image")) {
        return Err(malformed("only preheats of the type image are taken"));
    }
    let image = image_at(args.url.as_deref().unwrap_or_default(), None)?;
    let mut preheat = triggers.request(vec![image]);
    match args.scope.as_deref() {
        None | Some("") => {}
        Some("single_seed_peer" | "all_seed_peers") => preheat.nodes = None,
        Some("all_peers") => preheat.nodes = Some(EVERY_NODE.to_owned()),
        Some(_) => {
            let known = "single_seed_peer, all_seed_peers, all_peers";
            return Err(malformed(&format!(
                "unknown scope; expected one of {known}"
            )));
        }
    }
    if let Some(platform) = args.platform.filter(|platform| !platform.is_empty()) {
        preheat.platforms = vec![platform];
    }
    let authorization = authorization_of(args.headers)?;
    Ok(triggers.jobs.submit(preheat, authorization).await?)
}

fn to_job(record: &JobRecord) -> Job {
    let (state, result) = match record.state {
        JobState::Pending | JobState::Running => ("PENDING", None),
        JobState::Success => ("SUCCESS", Some(result_of(record))),
        JobState::Failure | JobState::Cancelled => ("FAILURE", Some(result_of(record))),
    };
    Job {
        id: record.id.0,
        created_at: time_of(record.created),
        updated_at: time_of(record.updated),
        state,
        kind: "preheat",
        args: HashMap::new(),
        result,
    }
}

/// Harbor shows the tasks of a job that succeeds, and the errors of one that does not.
fn result_of(record: &JobRecord) -> JobResult {
    let (failed, done): (Vec<&JobOutcome>, Vec<&JobOutcome>) = record
        .outcomes
        .iter()
        .partition(|outcome| outcome.error.is_some());
    let tasks = |outcomes: Vec<&JobOutcome>| outcomes.into_iter().map(task_of).collect();
    let results = ClusterResult {
        scheduler_cluster_id: 1,
        success_tasks: tasks(done),
        failure_tasks: tasks(failed),
    };
    let state = Part {
        error: record.cause.clone().unwrap_or_default(),
        results: vec![results],
    };
    JobResult {
        job_states: vec![state],
    }
}

fn task_of(outcome: &JobOutcome) -> Task {
    let url = outcome.url.as_ref().map(ToString::to_string);
    Task {
        url: url.unwrap_or_else(|| outcome.image.clone()),
        hostname: outcome.node.as_deref().unwrap_or(SUPERNODE).to_owned(),
        ip: String::new(),
        description: outcome.error.clone(),
    }
}
