//! Which supernode is asked for content, and which is left alone.

use std::time::{Duration, Instant};

use flotilla_cluster::content_url;
use flotilla_cluster::messages::swarms::{OpenRequest, OpenResponse};
use flotilla_cluster::supernode_client::{Supernode, SupernodeError};

use crate::node::requester::{ContentRequest, LayerFacts};
use crate::node::{NodeShared, OpenError};

/// A caller that leaves after this time without an answer has waited for the source.
const LONG_WAIT: Duration = Duration::from_secs(5);
/// A supernode that does not get an answer of a source is left alone with it for this long.
const AVOID_TIME: Duration = Duration::from_secs(60);
/// When all supernodes fail with a source, they are asked again after this: the source itself may have
/// been away, and without them each node fetches for itself.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Notes that a caller did not wait for the answer any longer.
struct Waiting<'a> {
    supernode: &'a Supernode,
    source: &'a str,
    since: Instant,
    is_answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waited = self.since.elapsed();
        if !self.is_answered && waited >= LONG_WAIT {
            let reason = format!("no answer of the source within {} s", waited.as_secs());
            let supernode = self.supernode;
            supernode.avoid_for_source(self.source, AVOID_TIME, reason);
        }
    }
}

impl NodeShared {
    /// The answer of the first supernode that can bring it. `offered`: bytes of the blob, if this node
    /// would give it.
    pub(super) async fn ask(
        &self,
        request: &ContentRequest,
        offered: Option<u64>,
        known: &LayerFacts,
    ) -> Result<(Supernode, OpenResponse), OpenError> {
        let source = (self.origin_of)(&request.url);
        let message = self.open_request(request, offered, known);
        let (candidates, mut last) = self.candidates(request, &source);
        for supernode in candidates {
            let mut waiting = Waiting {
                supernode: &supernode,
                source: &source,
                since: Instant::now(),
                is_answered: false,
            };
            let answer = supernode.open(&message).await;
            waiting.is_answered = true;
            drop(waiting);
            match answer {
                Ok(OpenResponse::Elsewhere { reason, seconds }) => {
                    let time = Duration::from_secs(seconds.into());
                    supernode.avoid_for_source(&source, time, reason.clone());
                    let supernode = supernode.url().clone();
                    last = Some(SupernodeError::Elsewhere { supernode, reason });
                }
                Ok(answer) => {
                    supernode.note_source_well(&source);
                    return Ok((supernode, answer));
                }
                Err(error) => {
                    tracing::warn!(%error, "supernode failed, asking the next one");
                    last = Some(error);
                }
            }
        }
        let none = last.unwrap_or_else(|| self.supernodes.none_healthy());
        Err(none.into())
    }

    /// Those to ask, the responsible one first; and why others are left out, if all are.
    fn candidates(
        &self,
        request: &ContentRequest,
        source: &str,
    ) -> (Vec<Supernode>, Option<SupernodeError>) {
        let key = request.digest.as_ref().map_or_else(
            || content_url(&request.url, &request.filter_query).to_string(),
            ToString::to_string,
        );
        let (mut well, mut again, mut last) = (Vec::new(), Vec::new(), None);
        for supernode in self.supernodes.for_key(&key) {
            match supernode.avoided_for_source(source) {
                None => well.push(supernode.clone()),
                Some((since, _)) if since >= RETRY_INTERVAL => again.push(supernode.clone()),
                Some((_, reason)) => {
                    let supernode = supernode.url().clone();
                    last = Some(SupernodeError::Elsewhere { supernode, reason });
                }
            }
        }
        if well.is_empty() {
            (again, last)
        } else {
            (well, None)
        }
    }

    fn open_request(
        &self,
        request: &ContentRequest,
        offered: Option<u64>,
        known: &LayerFacts,
    ) -> OpenRequest {
        OpenRequest {
            url: request.url.to_string(),
            headers: request.headers.clone(),
            digest: request.digest.clone(),
            filter_query: request.filter_query.clone(),
            peer_id: self.engine.peer_id(),
            node: self.node_name.clone(),
            offered,
            images: known.images.clone(),
            length: known.length,
        }
    }
}
