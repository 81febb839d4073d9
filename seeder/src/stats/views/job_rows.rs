//! Rows of preheat jobs. Credentials are never in them.

use std::cmp::Ordering;
use std::iter;
use std::sync::Arc;
use std::time::Instant;

use flotilla_cluster::messages::preheats::JobState;
use flotilla_torrents::Digest;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use super::listing::Row;
use crate::preheat::Preheat;
use crate::preheat::jobs::{JobId, JobOutcome, JobRecord, Jobs};
use crate::preheat::orders::Deliveries;
use crate::stats::observer::ROWS_LIVE;

/// Images of a job that its row names.
const MAX_IMAGES: usize = 8;
/// Of a name or a cause in a row, in characters.
const MAX_TEXT_LENGTH: usize = 255;

/// One job of many.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct JobRow {
    /// Its number.
    #[schema(value_type = u64)]
    id: JobId,
    /// Images and files, as people name them, each with at most 255 characters; in a list the first
    /// eight.
    #[schema(value_type = Vec<String>)]
    images: Images,
    /// All of its images.
    image_count: usize,
    /// The nodes that are to have the layers as well, a glob of their names.
    #[schema(required)]
    nodes: Option<String>,
    #[schema(schema_with = job_state)]
    state: JobState,
    /// Layers and configurations that the supernode has.
    layers: u64,
    /// Their bytes.
    bytes: u64,
    /// Layers that it is to have, as far as manifests were read; null when the job does not run.
    #[schema(required)]
    wanted_layers: Option<u64>,
    /// Layers, images and nodes that failed.
    failed: u64,
    /// Seconds since 1970.
    created: u64,
    /// Seconds since 1970.
    updated: u64,
    /// Why it failed; in a list its first 255 characters.
    #[schema(required)]
    cause: Option<String>,
}

/// The names of [`JobState`], which is not of this crate.
fn job_state() -> Object {
    let states = [
        JobState::Pending,
        JobState::Running,
        JobState::Success,
        JobState::Failure,
        JobState::Cancelled,
    ];
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(states.map(state_text)))
        .build()
}

/// What a job is of; texts are made of those alone that are shown, of ten thousand jobs.
#[derive(Clone, Debug)]
struct Images {
    asked: Arc<Preheat>,
    /// So many of them are shown.
    most: usize,
}

impl Images {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.asked.names()
    }
}

impl Serialize for Images {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names().take(self.most).map(shortened))
    }
}

impl JobRow {
    fn of(record: &JobRecord, asked: &Arc<Preheat>) -> Self {
        let is_running = record.state == JobState::Running;
        Self {
            id: record.id,
            images: Images {
                asked: Arc::clone(asked),
                most: MAX_IMAGES,
            },
            image_count: asked.names().len(),
            nodes: asked
                .nodes()
                .map(|nodes| shortened(&nodes.to_string()).to_owned()),
            state: record.state,
            layers: record.layers,
            bytes: record.bytes,
            wanted_layers: is_running.then(|| asked.wanted()),
            failed: record.failed,
            created: record.created,
            updated: record.updated,
            cause: record
                .cause
                .as_deref()
                .map(|cause| shortened(cause).to_owned()),
        }
    }
}

fn state_text(state: JobState) -> &'static str {
    match state {
        JobState::Pending => "pending",
        JobState::Running => "running",
        JobState::Success => "success",
        JobState::Failure => "failure",
        JobState::Cancelled => "cancelled",
    }
}

fn shortened(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_TEXT_LENGTH);
    end.and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum JobKey {
    #[default]
    Created,
    Updated,
    Images,
    Nodes,
    State,
    Layers,
    Bytes,
    Failed,
}

impl Row for JobRow {
    type Key = JobKey;
    type Id = JobId;

    fn texts(&self) -> impl Iterator<Item = &str> {
        let more = [self.nodes.as_deref(), self.cause.as_deref()];
        let more = more.into_iter().flatten();
        // All images, not only those that are shown.
        self.images
            .names()
            .chain(more)
            .chain(iter::once(state_text(self.state)))
    }

    fn id(&self) -> Self::Id {
        self.id
    }

    fn id_text(&self) -> String {
        self.id.to_string()
    }

    fn compare(&self, other: &Self, key: JobKey) -> Ordering {
        let by = |of: fn(&Self) -> u64| of(self).cmp(&of(other));
        match key {
            // Several begin within a second; their numbers rise.
            JobKey::Created => self.id.cmp(&other.id),
            JobKey::Updated => by(|row| row.updated),
            JobKey::Images => self.images.names().cmp(other.images.names()),
            JobKey::Nodes => self.nodes.cmp(&other.nodes),
            JobKey::State => state_text(self.state).cmp(state_text(other.state)),
            JobKey::Layers => by(|row| row.layers),
            JobKey::Bytes => by(|row| row.bytes),
            JobKey::Failed => by(|row| row.failed),
        }
    }
}

/// One job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobView {
    /// With all its images, and its whole cause.
    #[serde(flatten)]
    row: JobRow,
    /// How far the nodes are; null while nothing goes to nodes.
    #[schema(required)]
    deliveries: Option<DeliveriesView>,
    /// At most 32, those that failed first.
    outcomes: Vec<OutcomeRow>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Deliveries)]
struct DeliveriesView {
    /// Nodes that were chosen.
    nodes: usize,
    /// Those that have every layer, or have failed.
    ended_nodes: usize,
    /// Over all nodes.
    missing_layers: usize,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Outcome)]
struct OutcomeRow {
    image: String,
    /// The layer; null: the whole image.
    #[schema(required, value_type = Option<String>)]
    digest: Option<Digest>,
    /// Null: the supernode.
    #[schema(required)]
    node: Option<String>,
    /// Why it failed; null: it did not.
    #[schema(required)]
    error: Option<String>,
}

impl OutcomeRow {
    fn of(outcome: &JobOutcome) -> Self {
        Self {
            image: outcome.image.clone(),
            digest: outcome.digest.clone(),
            node: outcome.node.clone(),
            error: outcome.error.clone(),
        }
    }
}

/// The job that is called so.
pub(crate) fn job(jobs: &Jobs, id: JobId) -> Option<JobView> {
    let deliveries = jobs.orders().progress(id);
    jobs.with_job(id, |record, asked| {
        let row = JobRow {
            images: Images {
                asked: Arc::clone(asked),
                most: usize::MAX,
            },
            cause: record.cause.clone(),
            ..JobRow::of(record, asked)
        };
        JobView {
            row,
            deliveries: deliveries.map(|deliveries: Deliveries| DeliveriesView {
                nodes: deliveries.nodes,
                ended_nodes: deliveries.ended,
                missing_layers: deliveries.missing_layers,
            }),
            outcomes: record.outcomes.iter().map(OutcomeRow::of).collect(),
        }
    })
}

/// The jobs of a supernode as rows.
pub(crate) struct JobList {
    pub(crate) jobs: Jobs,
    rows: Mutex<Option<(Instant, Arc<Vec<JobRow>>)>>,
}

impl JobList {
    pub(crate) fn new(jobs: Jobs) -> Self {
        Self {
            jobs,
            rows: Mutex::new(None),
        }
    }

    /// All rows, as they were at most half a second ago.
    pub(crate) fn rows(&self, now: Instant) -> Arc<Vec<JobRow>> {
        let mut rows = self.rows.lock();
        match rows.as_ref() {
            Some((taken, rows)) if now.saturating_duration_since(*taken) < ROWS_LIVE => {
                Arc::clone(rows)
            }
            _ => {
                let made = Arc::new(self.jobs.with_jobs(JobRow::of));
                *rows = Some((now, Arc::clone(&made)));
                made
            }
        }
    }

    /// Jobs that have not ended.
    pub(crate) fn unfinished(&self, now: Instant) -> usize {
        let rows = self.rows(now);
        rows.iter().filter(|row| !row.state.is_final()).count()
    }
}
