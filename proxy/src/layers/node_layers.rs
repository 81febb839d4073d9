//! A node of the cluster as the proxy's source of layers.

use std::ops::Range;

use bytes::Bytes;
use flotilla_client::{ContentRequest, Layer, LayerFacts, Node, OpenError, ReadError, Spool};
use flotilla_cluster::supernode_client::SupernodeError;
use flotilla_registry::origin_of;
use flotilla_torrents::Digest;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use url::Url;

use crate::layers::source::{LayerRequest, LayerSource, NotDelivered, ReadFailure, SwarmLayer};
use crate::marks::Mark;

impl LayerSource for Node {
    fn local(&self, digest: &Digest, url: &Url) -> BoxFuture<'_, Option<Box<dyn SwarmLayer>>> {
        let (digest, url) = (digest.clone(), url.clone());
        async move { Some(boxed(Node::local(self, &digest, &url).await?)) }.boxed()
    }

    fn open(
        &self,
        request: LayerRequest,
    ) -> BoxFuture<'_, Result<Box<dyn SwarmLayer>, NotDelivered>> {
        async move {
            let known = LayerFacts {
                images: request.images.clone(),
                length: request.length,
            };
            let opened = Node::open_for(self, content_request(request), &known).await;
            opened.map(boxed).map_err(|error| not_delivered(&error))
        }
        .boxed()
    }

    fn spool(&self) -> Option<Spool> {
        Some(self.engine().spool())
    }

    fn keep(&self, spool: Spool, request: LayerRequest) -> BoxFuture<'_, Result<(), NotDelivered>> {
        async move {
            let (digest, origin) = (request.digest.clone(), origin_of(&request.url));
            let kept = tokio::task::spawn_blocking(move || spool.into_layer(&digest, &origin));
            kept.await
                .map_err(|error| NotDelivered::new(Mark::PushReadBack, &error))?
                .map_err(|error| NotDelivered::new(Mark::PushReadBack, &error))?;
            let offered = Node::offer(self, content_request(request)).await;
            offered.map_err(|error| NotDelivered::new(Mark::PushReadBack, &error))
        }
        .boxed()
    }
}

impl SwarmLayer for Layer {
    fn length(&self) -> u64 {
        Layer::length(self)
    }

    fn published(&self, range: Range<u64>) -> BoxFuture<'static, ()> {
        Layer::published(self, &range).boxed()
    }

    fn read(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes, ReadFailure>> {
        Layer::read(self, range)
            .map_err(|error| read_failure(&error))
            .boxed()
    }

    fn note_from_registry(&self, bytes: u64) {
        if let Some(swarm) = self.swarm() {
            swarm.note_from_registry(bytes);
        }
    }

    fn note_slow(&self) {
        self.leave_supernode("it is slow");
    }

    fn note_registry_reason(&self, reason: &str) {
        if let Some(swarm) = self.swarm() {
            swarm.note_registry_reason(reason);
        }
    }
}

fn content_request(request: LayerRequest) -> ContentRequest {
    ContentRequest {
        url: request.url,
        headers: request.headers,
        digest: Some(request.digest),
        filter_query: Vec::new(),
    }
}

fn not_delivered(error: &OpenError) -> NotDelivered {
    let mark = match error {
        OpenError::Refused { .. } => Mark::CallerRefused,
        OpenError::Unswarmable(_) => Mark::LayerUnswarmable,
        OpenError::Supernode(SupernodeError::NotAMember { .. }) => Mark::SupernodeRefusesNode,
        OpenError::Supernode(SupernodeError::Unexpected { .. })
        | OpenError::Geometry(_)
        | OpenError::OtherContent { .. } => Mark::SupernodeAnswerWrong,
        OpenError::Supernode(SupernodeError::Elsewhere { .. }) => Mark::SupernodesCannot,
        OpenError::Supernode(_) => Mark::SupernodeUnreachable,
        _ => Mark::NodeCannotStore,
    };
    NotDelivered::new(mark, error)
}

fn read_failure(error: &ReadError) -> ReadFailure {
    let mark = match error {
        ReadError::Void(_) => Mark::SwarmVoid,
        ReadError::Wrong { .. } => Mark::LayerWrong,
        ReadError::Disk(_) => Mark::CacheUnreadable,
        _ => Mark::SwarmStalled,
    };
    ReadFailure::new(mark, error)
}

fn boxed(layer: Layer) -> Box<dyn SwarmLayer> {
    Box::new(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_fails_is_marked_by_its_cause() {
        for (error, mark) in [
            (ReadError::Stalled("no peer has it"), Mark::SwarmStalled),
            (ReadError::Void("wrong digest".to_owned()), Mark::SwarmVoid),
            (
                ReadError::Disk(std::io::Error::other("bad sector")),
                Mark::CacheUnreadable,
            ),
        ] {
            let reason = error.to_string();
            let failure = read_failure(&error);
            assert_eq!((failure.mark, failure.reason), (mark, reason));
        }
    }
}
