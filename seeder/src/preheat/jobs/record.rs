//! What is known, and kept on the disk, of one job.

use std::collections::BTreeSet;
use std::fmt;

pub(crate) use flotilla_cluster::messages::preheats::JobState;
use flotilla_cluster::messages::preheats::{JobStatus, PreheatRequest};
use flotilla_torrents::Digest;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::preheat::redacted_target;

/// Outcomes kept of one job, those that failed first.
pub(super) const MAX_OUTCOMES: usize = 32;
/// Of a reason, in characters.
const MAX_REASON_LENGTH: usize = 500;
/// Reasons that a cause quotes.
const MAX_QUOTED: usize = 3;

/// Names a job, for as long as it is kept; larger than those of all jobs before. A number, since
/// Harbor reads nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct JobId(pub(crate) u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An `Authorization` header; on the disk for as long as its job is unfinished.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Authorization(pub(crate) String);

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization")
    }
}

/// What has become of a layer, an image, or a node's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobOutcome {
    /// The image, or the file, as people name it.
    pub(crate) image: String,
    /// The layer; none: the whole image, or a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<Digest>,
    /// Where the registry has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<Url>,
    /// The node; none: the supernode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    /// Why it failed; none: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// A job, as it is on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    pub(crate) id: JobId,
    pub(crate) request: PreheatRequest,
    /// What the registry is to be shown; forgotten when the job is finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) authorization: Option<Authorization>,
    pub(crate) state: JobState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<String>,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// Seconds since 1970.
    pub(crate) updated: u64,
    /// Layers and configurations that the supernode has.
    pub(crate) layers: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Layers, images and nodes that failed.
    pub(crate) failed: u64,
    pub(crate) outcomes: Vec<JobOutcome>,
    /// The nodes that were chosen; none: none is yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nodes: Option<BTreeSet<String>>,
}

impl JobRecord {
    /// What its followers see of it.
    pub(super) fn status(self) -> JobStatus {
        JobStatus {
            id: self.id.0,
            state: self.state,
            images: self
                .request
                .images
                .iter()
                .map(|image| redacted_target(image))
                .collect(),
            nodes: self.request.nodes,
            cause: self.cause,
            layers: self.layers,
            bytes: self.bytes,
            failed: self.failed,
            created: self.created,
            updated: self.updated,
        }
    }

    pub(super) fn new(
        id: JobId,
        request: PreheatRequest,
        authorization: Option<String>,
        now: u64,
    ) -> Self {
        Self {
            id,
            request,
            authorization: authorization.map(Authorization),
            state: JobState::Pending,
            cause: None,
            created: now,
            updated: now,
            layers: 0,
            bytes: 0,
            failed: 0,
            outcomes: Vec::new(),
            nodes: None,
        }
    }

    /// Begins, or begins again.
    pub(super) fn start(&mut self, now: u64) {
        self.state = JobState::Running;
        self.updated = now;
        self.layers = 0;
        self.bytes = 0;
        self.failed = 0;
        self.outcomes.clear();
    }

    /// Takes note of a layer, or of a file, that is here.
    pub(super) fn add_layer(
        &mut self,
        image: String,
        digest: Option<Digest>,
        url: Option<Url>,
        bytes: u64,
    ) {
        self.layers += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.add(JobOutcome {
            image,
            digest,
            url,
            node: None,
            error: None,
        });
    }

    /// Takes note of an outcome that is not of a layer here.
    pub(super) fn add(&mut self, outcome: JobOutcome) {
        if let Some(error) = &outcome.error {
            self.failed += 1;
            let error: String = error.chars().take(MAX_REASON_LENGTH).collect();
            let failures = self.outcomes.iter().filter(|o| o.error.is_some()).count();
            let error = Some(error);
            self.outcomes
                .insert(failures, JobOutcome { error, ..outcome });
        } else {
            self.outcomes.push(outcome);
        }
        self.outcomes.truncate(MAX_OUTCOMES);
    }

    /// The end; its state follows from what failed, unless `state` says more.
    pub(super) fn finish(&mut self, state: JobState, cause: Option<String>, now: u64) {
        self.state = state;
        self.cause = cause;
        self.authorization = None;
        // Signatures of URLs are for the work alone.
        for image in &mut self.request.images {
            *image = redacted_target(image);
        }
        // Up to 10,000 names, of 10,000 jobs.
        self.nodes = None;
        self.updated = now;
    }

    /// Why not everything is where it should be.
    pub(super) fn cause_of_failures(&self) -> Option<String> {
        let failures = self.outcomes.iter().filter_map(|outcome| {
            let error = outcome.error.as_deref()?;
            let digest = outcome.digest.as_ref().map(|digest| format!(" {digest}"));
            let node = outcome.node.as_ref().map(|node| format!(" at node {node}"));
            let (digest, node) = (digest.unwrap_or_default(), node.unwrap_or_default());
            Some(format!("{}{digest}{node}: {error}", outcome.image))
        });
        let quoted: Vec<String> = failures.take(MAX_QUOTED).collect();
        let more = self.failed.saturating_sub(quoted.len() as u64);
        match (quoted.is_empty(), more) {
            (true, _) => None,
            (false, 0) => Some(quoted.join("; ")),
            (false, more) => Some(format!("{}; and {more} more", quoted.join("; "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> JobRecord {
        let request = PreheatRequest {
            images: vec!["reg.test/a:1".to_owned()],
            ..PreheatRequest::default()
        };
        JobRecord::new(JobId(1), request, Some("Bearer secret".to_owned()), 5)
    }

    fn failure(number: usize) -> JobOutcome {
        JobOutcome {
            image: "reg.test/a:1".to_owned(),
            digest: None,
            url: None,
            node: (number > 0).then(|| format!("node-{number}")),
            error: Some(format!("reason {number}")),
        }
    }

    #[test]
    fn the_first_reasons_are_the_cause_and_the_rest_is_counted() {
        let mut job = record();
        assert_eq!(job.cause_of_failures(), None);
        for layer in 0..100_u8 {
            let digest = format!("sha256:{}", format!("{layer:02x}").repeat(32));
            let digest = Some(digest.parse().unwrap());
            job.add_layer("reg.test/a:1".to_owned(), digest, None, 7);
        }
        for number in 0..5 {
            job.add(failure(number));
        }
        assert_eq!((job.layers, job.bytes, job.failed), (100, 700, 5));
        assert_eq!(job.outcomes.len(), MAX_OUTCOMES);
        let cause = job.cause_of_failures().unwrap();
        let expected = "reg.test/a:1: reason 0; reg.test/a:1 at node node-1: reason 1; \
                        reg.test/a:1 at node node-2: reason 2; and 2 more";
        assert_eq!(cause, expected);
    }

    #[test]
    fn what_was_lent_is_neither_shown_nor_kept_longer_than_the_job_runs() {
        let mut job = record();
        let signed = "https://f.test/a?sig=secret".to_owned();
        job.request.images.push(signed);
        assert!(!format!("{:?}", job.authorization).contains("secret"));
        assert!(serde_json::to_string(&job).unwrap().contains("secret"));
        job.finish(JobState::Success, None, 6);
        assert!(!serde_json::to_string(&job).unwrap().contains("secret"));
    }
}
