//! The messages of `/v1/preheat-jobs`, JSON: layers for the swarm before anybody
//! pulls them.
//!
//! The reader caps its bytes before it is parsed.

use flotilla_torrents::Digest;
use serde::{Deserialize, Serialize};

/// Asks a supernode to open the layers of images in its own name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreheatRequest {
    /// The images, each `HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]` or its manifest's URL; and files, each
    /// its URL, http or https.
    pub images: Vec<String>,
    /// What an image with several platforms is wanted for, each `OS/ARCHITECTURE[/VARIANT]`;
    /// none: all of them.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// Whose layers are wanted in a cluster of several supernodes; none: all layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<PreheatShare>,
    /// The nodes that are to have the layers as well: a glob of their names; none: no node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// Query parameters of files' URLs that do not name the content, such as signatures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filter_query: Vec<String>,
}

/// A supernode's part of a cluster's layers: those that the nodes ask it for first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreheatShare {
    /// The URLs of all supernodes, written as nodes know them.
    pub supernodes: Vec<String>,
    /// The one that is asked.
    pub own: String,
}

/// How far a preheat job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// It waits for its turn.
    Pending,
    /// Layers are read, or go to nodes.
    Running,
    /// Everything is where it should be.
    Success,
    /// Not everything is; the cause says why.
    Failure,
    /// It was cancelled.
    Cancelled,
}

impl JobState {
    /// Whether it stays so.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// The answer to `POST /v1/preheat-jobs`, and to `GET` and `DELETE /v1/preheat-jobs/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobStatus {
    /// Names the job.
    pub id: u64,
    /// How far it is.
    pub state: JobState,
    /// Its images, as they were asked for.
    pub images: Vec<String>,
    /// The nodes that are to have the layers as well, a glob of their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Layers and configurations that the supernode has.
    pub layers: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Layers, images and nodes that failed.
    pub failed: u64,
    /// Seconds since 1970.
    pub created: u64,
    /// Seconds since 1970.
    pub updated: u64,
}

/// One line of the answer of `GET /v1/preheat-jobs/{id}/events`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreheatEvent {
    /// A layer or configuration is whole, compared with its digest, and can be had.
    Layer {
        /// The image, as it was asked for.
        image: String,
        /// The blob.
        digest: Digest,
        /// Its bytes.
        bytes: u64,
    },
    /// A file is whole, and can be had.
    File {
        /// Its URL, without what may be secret in it.
        url: String,
        /// Its bytes.
        bytes: u64,
    },
    /// A layer that the registry does not have: its manifest says where else it is.
    Foreign {
        /// The image, as it was asked for.
        image: String,
        /// The blob.
        digest: Digest,
    },
    /// An image, one of its layers, or a file cannot be had.
    Failed {
        /// The image, as it was asked for, or the file's URL without what may be secret in it.
        image: String,
        /// The layer; `None`: the image itself.
        digest: Option<Digest>,
        /// Why.
        reason: String,
    },
    /// The supernode is alive.
    Heartbeat {},
    /// The last line: how the job has ended.
    Finished(JobStatus),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_needs_no_more_than_images() {
        let request: PreheatRequest = serde_json::from_str(r#"{"images":["a/b:1"]}"#).unwrap();
        assert_eq!(request.images, ["a/b:1"]);
        assert!(request.platforms.is_empty() && request.share.is_none());
        assert!(serde_json::from_str::<PreheatRequest>(r#"{"images":[],"image":"a"}"#).is_err());
    }

    #[test]
    fn events_are_lines_of_json() {
        let digest: Digest = format!("sha256:{}", "cd".repeat(32)).parse().unwrap();
        for (event, json) in [
            (
                PreheatEvent::Layer {
                    image: "a/b:1".to_owned(),
                    digest: digest.clone(),
                    bytes: 7,
                },
                format!(r#"{{"layer":{{"image":"a/b:1","digest":"{digest}","bytes":7}}}}"#),
            ),
            (
                PreheatEvent::Failed {
                    image: "a/b:1".to_owned(),
                    digest: None,
                    reason: "gone".to_owned(),
                },
                r#"{"failed":{"image":"a/b:1","digest":null,"reason":"gone"}}"#.to_owned(),
            ),
            (
                PreheatEvent::File {
                    url: "http://h/f".to_owned(),
                    bytes: 7,
                },
                r#"{"file":{"url":"http://h/f","bytes":7}}"#.to_owned(),
            ),
            (
                PreheatEvent::Finished(JobStatus {
                    id: 5,
                    state: JobState::Success,
                    images: vec!["a/b:1".to_owned()],
                    nodes: None,
                    cause: None,
                    layers: 1,
                    bytes: 7,
                    failed: 0,
                    created: 2,
                    updated: 3,
                }),
                format!(
                    r#"{{"finished":{{"id":5,"state":"success","images":["a/b:1"],{}}}}}"#,
                    r#""layers":1,"bytes":7,"failed":0,"created":2,"updated":3"#
                ),
            ),
        ] {
            assert_eq!(serde_json::to_string(&event).unwrap(), json);
            assert_eq!(serde_json::from_str::<PreheatEvent>(&json).unwrap(), event);
        }
    }
}
