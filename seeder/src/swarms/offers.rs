//! Blobs that nodes give: what was pushed through a node is taken from there, and not read back
//! from the registry.
//!
//! The registry says, as for every caller, that he may have a blob of this length; what is in it
//! its digest says. No node gets a byte before the whole was compared with that.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use flotilla_client::{Engine, Spool, SpoolError, StoreError};
use flotilla_registry::origin_of;
use flotilla_torrents::{Digest, InfoHash};
use futures_util::{Stream, StreamExt as _};
use moka::future::Cache;
use tokio::sync::Semaphore;
use url::Url;

/// Offers that may be answered; each takes some 500 bytes.
const MAX_WANTED: u64 = 10_000;
/// Nodes give at once; an offer that waited for longer is made again.
const OFFER_TTL: Duration = Duration::from_secs(60);
/// Blobs taken at the same moment. Nodes to which this says no have the supernode read the blob
/// from the registry.
const MAX_AT_ONCE: usize = 8;
/// A node that sends nothing for so long has gone away.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes written at a time, away from the reactor.
const WRITTEN_AT_ONCE: usize = 1024 * 1024;

/// The blobs that are wanted of nodes.
pub(crate) struct Offers {
    wanted: Cache<InfoHash, OfferedBlob>,
    at_once: Semaphore,
}

/// A blob that its registry lets the caller have.
#[derive(Clone)]
pub(crate) struct OfferedBlob {
    pub(crate) url: Url,
    pub(crate) digest: Digest,
    pub(crate) length: u64,
}

/// Why a blob was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    #[error("no node has offered this blob lately")]
    NotOffered,
    #[error("too many blobs are being sent at once; try again later")]
    Busy,
    #[error("the node sends nothing for {IDLE_TIMEOUT:?}")]
    Silent,
    #[error("the node broke off: {0}")]
    BrokeOff(axum::Error),
    #[error("more or less than the {0} bytes that were offered")]
    Length(u64),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("the supernode stops")]
    Stopping,
}

impl From<StoreError> for TakeError {
    fn from(error: StoreError) -> Self {
        Self::Spool(error.into())
    }
}

impl Offers {
    pub(crate) fn new() -> Self {
        let wanted = Cache::builder()
            .max_capacity(MAX_WANTED)
            .time_to_live(OFFER_TTL);
        Self {
            wanted: wanted.build(),
            at_once: Semaphore::new(MAX_AT_ONCE),
        }
    }

    pub(crate) async fn want(&self, swarm: InfoHash, wanted: OfferedBlob) {
        self.wanted.insert(swarm, wanted).await;
    }

    /// Takes the blob of `swarm`, which is then complete in the store of `engine`.
    ///
    /// # Errors
    /// The bytes are not what was offered, or cannot be kept; nothing is left of them.
    pub(crate) async fn take(
        &self,
        engine: &Engine,
        swarm: &InfoHash,
        bytes: impl Stream<Item = Result<Bytes, axum::Error>>,
    ) -> Result<(), TakeError> {
        let _permit = self.at_once.try_acquire().map_err(|_| TakeError::Busy)?;
        let wanted = self.wanted.remove(swarm).await;
        let OfferedBlob {
            url,
            digest,
            length,
        } = wanted.ok_or(TakeError::NotOffered)?;
        let spool = receive(engine.spool(), length, bytes).await?;
        let layer = blocking(move || Ok(spool.into_layer(&digest, &origin_of(&url))?)).await?;
        tracing::info!(content = %layer.content(), bytes = length, "offered blob stored");
        Ok(())
    }
}

async fn receive(
    mut spool: Spool,
    length: u64,
    bytes: impl Stream<Item = Result<Bytes, axum::Error>>,
) -> Result<Spool, TakeError> {
    let mut bytes = pin!(bytes);
    let mut waiting = Vec::new();
    let mut received: u64 = 0;
    loop {
        let next = tokio::time::timeout(IDLE_TIMEOUT, bytes.next()).await;
        let next = next.map_err(|_| TakeError::Silent)?.transpose();
        let next = next.map_err(TakeError::BrokeOff)?;
        let is_end = next.is_none();
        if let Some(part) = next {
            received = received.saturating_add(part.len() as u64);
            if received > length {
                return Err(TakeError::Length(length));
            }
            waiting.push(part);
        }
        let size: usize = waiting.iter().map(Bytes::len).sum();
        if is_end || size >= WRITTEN_AT_ONCE {
            let parts = std::mem::take(&mut waiting);
            let written = blocking(move || {
                for part in parts {
                    spool.append(&part)?;
                }
                Ok(spool)
            });
            spool = written.await?;
        }
        if is_end && received == length {
            return Ok(spool);
        }
        if is_end {
            return Err(TakeError::Length(length));
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TakeError> + Send + 'static,
) -> Result<T, TakeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(Err(TakeError::Stopping))
}
