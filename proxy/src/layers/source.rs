//! Where layers come from, as far as the proxy needs to know.

use std::ops::Range;

use bytes::Bytes;
use flotilla_client::Spool;
use flotilla_torrents::Digest;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use url::Url;

use crate::marks::Mark;

/// The swarm, seen from the proxy.
pub trait LayerSource: Send + Sync + 'static {
    /// The layer, if it is complete and verified on this node's disk and came from the
    /// registry of `url`. The caller has yet to be authorized.
    fn local(&self, digest: &Digest, url: &Url) -> BoxFuture<'_, Option<Box<dyn SwarmLayer>>>;

    /// Opens a layer in the caller's name; an open layer means that the registry lets this
    /// caller have it. Fails soon when no supernode answers, and waits while one waits for the
    /// registry: to go there would not help.
    fn open(
        &self,
        request: LayerRequest,
    ) -> BoxFuture<'_, Result<Box<dyn SwarmLayer>, NotDelivered>>;

    /// A place for the bytes of a push, if this source keeps any.
    fn spool(&self) -> Option<Spool> {
        None
    }

    /// Makes the blob of `request`, which the registry has just taken, a layer of this node and
    /// of the swarm. Its bytes have yet to be compared with the digest.
    fn keep(&self, spool: Spool, request: LayerRequest) -> BoxFuture<'_, Result<(), NotDelivered>> {
        drop((spool, request));
        let kept = Err(NotDelivered::new(
            Mark::PushReadBack,
            "this source keeps nothing",
        ));
        Box::pin(std::future::ready(kept))
    }
}

/// A layer that arrives, or has arrived.
pub trait SwarmLayer: Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> u64;

    /// Returns once the swarm has heard of every byte of `range`. Until then only the registry can
    /// deliver them, and it sends them last.
    fn published(&self, range: Range<u64>) -> BoxFuture<'static, ()>;

    /// The verified bytes of `range`, in order, as they come. After an error the stream is
    /// not polled again.
    fn read(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes, ReadFailure>>;

    /// The registry has delivered `bytes` in the swarm's place.
    fn note_from_registry(&self, bytes: u64) {
        let _ = bytes;
    }

    /// The registry is clearly faster: other layers should not come this way for a while.
    fn note_slow(&self) {}

    /// Why the registry has to deliver.
    fn note_registry_reason(&self, reason: &str) {
        let _ = reason;
    }
}

/// What to open, and in whose name.
#[derive(Clone, Debug)]
pub struct LayerRequest {
    /// The blob at the registry.
    pub url: Url,
    /// The caller's `Authorization`, when there is one.
    pub headers: Vec<(String, String)>,
    /// The blob's digest.
    pub digest: Digest,
    /// The images that it is known to belong to, as people name them: for the statistics page.
    pub images: Vec<String>,
    /// Its length, if a manifest has passed that names it.
    pub length: Option<u64>,
}

/// The swarm does not deliver. The request passes to the registry.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct NotDelivered {
    /// What is counted and logged.
    pub mark: Mark,
    /// Why, for the log.
    pub reason: String,
}

impl NotDelivered {
    /// Under `mark`.
    pub fn new(mark: Mark, reason: &(impl ToString + ?Sized)) -> Self {
        Self {
            mark,
            reason: reason.to_string(),
        }
    }
}

/// The swarm stopped delivering. The registry takes over in the same response.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct ReadFailure {
    /// What is counted and logged.
    pub mark: Mark,
    /// Why, for the log.
    pub reason: String,
}

impl ReadFailure {
    /// Under `mark`.
    pub fn new(mark: Mark, reason: &(impl ToString + ?Sized)) -> Self {
        Self {
            mark,
            reason: reason.to_string(),
        }
    }
}
