//! Fetches for clients on this host: the layer stays in the host's cache, the client links it.

use std::sync::Arc;
use std::time::Duration;

use flotilla_torrents::Digest;
use futures_util::future::BoxFuture;
use url::Url;

use super::lines::Lines;
use super::{FetchEvent, FetchRequest, FetchedLayer};
use crate::blocking::blocking;
use crate::engine::Engine;
use crate::engine::swarm_handle::SwarmHandle;
use crate::node::{ContentRequest, Layer, OpenError};
use crate::store::{Lease, StoredLayer, whole_digest};

/// How often a client hears how far its fetch is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Where the content comes from that clients of the control socket ask for.
pub trait ContentSource: Send + Sync + 'static {
    /// Opens `request`: the answer is a layer only if the source lets this very caller have it,
    /// also when it is on this host already.
    fn open(&self, request: ContentRequest) -> BoxFuture<'_, Result<Layer, OpenError>>;

    /// The source that has what is at `url`, as [`NodeConfig`](crate::NodeConfig) names it.
    fn origin_of(&self, url: &Url) -> String;
}

/// Fetches, tells the client, and keeps the layer from being evicted until the client hangs up.
pub(super) async fn run(
    engine: &Engine,
    source: &dyn ContentSource,
    request: FetchRequest,
    lines: &Lines,
) {
    let wanted = request.digest.clone();
    let origin = source.origin_of(&request.url);
    let opened = source.open(ContentRequest {
        url: request.url,
        headers: request.headers,
        digest: request.digest,
        filter_query: request.filter_query,
    });
    let last = match opened.await {
        Ok(layer) => match complete(engine, &layer, &origin, lines).await {
            Ok((layer, lease)) => match described(&layer, wanted).await {
                Ok(event) => {
                    if lines.send(&event).await {
                        lines.closed().await;
                    }
                    drop(lease);
                    return;
                }
                Err(event) => event,
            },
            Err(reason) => FetchEvent::Failed { reason },
        },
        Err(OpenError::Refused { status, reason }) => FetchEvent::Refused { status, reason },
        Err(error) => FetchEvent::Failed {
            reason: error.to_string(),
        },
    };
    lines.send(&last).await;
}

/// Waits until all of it is on the disk. The error is the reason why it will not be.
async fn complete(
    engine: &Engine,
    layer: &Layer,
    origin: &str,
    lines: &Lines,
) -> Result<(Arc<StoredLayer>, Lease), String> {
    let stored = if let Some(small) = layer.small() {
        let (engine, small, origin) = (engine.clone(), small.clone(), origin.to_owned());
        let written = blocking(move || engine.write_small(&small, &origin));
        written.await.map_err(|error| error.to_string())?
    } else if let Some(swarm) = layer.swarm() {
        until_complete(swarm, layer, lines).await?;
        Arc::clone(swarm.layer())
    } else {
        return Err("the layer has no bytes".to_owned());
    };
    let lease = stored.lease();
    // Evicted or found damaged before it was leased: not what the client shall link.
    if engine.store().has(&stored) {
        Ok((stored, lease))
    } else {
        Err("the layer has just left the cache".to_owned())
    }
}

async fn until_complete(swarm: &SwarmHandle, layer: &Layer, lines: &Lines) -> Result<(), String> {
    let mut completed = std::pin::pin!(layer.completed());
    let mut reported = None;
    loop {
        let status = swarm.status();
        let length = swarm.geometry().length();
        let pieces = u64::from(swarm.geometry().piece_length());
        let held = u64::from(status.held).saturating_mul(pieces).min(length);
        if reported != Some(held) {
            reported = Some(held);
            if !lines.send(&FetchEvent::Progress { held, length }).await {
                return Err("the client has hung up".to_owned());
            }
        }
        tokio::select! {
            completed = &mut completed => return completed,
            () = tokio::time::sleep(PROGRESS_INTERVAL) => {}
        }
        if let Some(reason) = swarm.stalled() {
            return Err(reason.to_owned());
        }
    }
}

/// Describes the layer for the client; an error when it is not what the client wants.
async fn described(
    layer: &Arc<StoredLayer>,
    wanted: Option<Digest>,
) -> Result<FetchEvent, FetchEvent> {
    let failed = |reason: String| FetchEvent::Failed { reason };
    let sha256 = layer
        .sealed()
        .ok_or_else(|| failed("the layer is not complete".to_owned()))?;
    if let Some(wanted) = wanted {
        let found = if wanted.algorithm() == sha256.algorithm() {
            sha256.clone()
        } else {
            let (layer, like) = (Arc::clone(layer), wanted.clone());
            let hashed = blocking(move || whole_digest(&layer, &like)).await;
            hashed.map_err(|error| failed(error.to_string()))?
        };
        if found != wanted {
            return Err(FetchEvent::OtherDigest { found });
        }
    }
    let path = std::path::absolute(layer.data_path());
    Ok(FetchEvent::Complete(FetchedLayer {
        path: path.map_err(|error| failed(error.to_string()))?,
        length: layer.geometry().length(),
        content: layer.content().clone(),
        sha256,
    }))
}
