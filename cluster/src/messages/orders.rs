//! The messages of `/v1/orders`, JSON: a supernode has nodes fetch layers, and files at URLs, before
//! anybody pulls them.
//! A node asks, so that it needs no port for this.
//!
//! The reader caps its bytes before it is parsed.

use flotilla_torrents::{ContentId, PeerId};
use serde::{Deserialize, Serialize};

/// `POST /v1/orders`: a node is there and takes orders, for as long as it reads the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOrders {
    /// The node's name, by which it is chosen.
    pub node: String,
    /// The peer that takes part in swarms.
    pub peer_id: PeerId,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderEvent {
    /// The node is to have these.
    Layers {
        /// The job that they are for.
        job: u64,
        /// Those that it is not known to have yet.
        layers: Vec<OrderedLayer>,
    },
    /// The node need not bother any more.
    Withdrawn {
        /// The job.
        job: u64,
    },
    /// The supernode is alive.
    Heartbeat {},
}

/// A layer, or a file at a URL, that a node is to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderedLayer {
    /// Where its source has it.
    pub url: String,
    /// What it is: of a layer its digest.
    pub content: ContentId,
}

/// `POST /v1/orders/{job}/swarms`: asks for the swarm of an ordered layer, in the supernode's name.
/// The answer is that to an [`OpenRequest`](crate::messages::swarms::OpenRequest).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenOrdered {
    /// The node.
    pub node: String,
    /// The peer that will take part.
    pub peer_id: PeerId,
    /// The layer.
    pub content: ContentId,
}

/// `POST /v1/orders/{job}/outcomes`: what has become of an ordered layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderOutcome {
    /// The node.
    pub node: String,
    /// Its peer.
    pub peer_id: PeerId,
    /// The layer.
    pub content: ContentId,
    /// Why the node does not have it; none: it does, compared with its digest if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_lines_of_json() {
        let digest = format!("sha256:{}", "cd".repeat(32));
        let layers = vec![OrderedLayer {
            url: "https://r.test/v2/a/blobs/x".to_owned(),
            content: digest.parse().unwrap(),
        }];
        for (event, json) in [
            (
                OrderEvent::Layers { job: 7, layers },
                format!(
                    r#"{{"layers":{{"job":7,"layers":[{{"url":"https://r.test/v2/a/blobs/x","content":"{digest}"}}]}}}}"#
                ),
            ),
            (
                OrderEvent::Withdrawn { job: 7 },
                r#"{"withdrawn":{"job":7}}"#.to_owned(),
            ),
            (OrderEvent::Heartbeat {}, r#"{"heartbeat":{}}"#.to_owned()),
        ] {
            assert_eq!(serde_json::to_string(&event).unwrap(), json);
            assert_eq!(serde_json::from_str::<OrderEvent>(&json).unwrap(), event);
        }
    }
}
