//! A swarm in memory, which fails on command.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flotilla_proxy::{LayerRequest, LayerSource, Mark, NotDelivered, ReadFailure, SwarmLayer};
use flotilla_torrents::Digest;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Notify;

const PART: usize = 64 * 1024;

/// What becomes of `open`.
#[derive(Clone)]
pub enum Opening {
    Layer(FakeLayer),
    Fails,
    /// Never ends.
    Hangs,
    /// Once that is notified.
    Later(Arc<Notify>, FakeLayer),
}

/// Whether a layer that stalls continues.
#[derive(Clone, Default)]
pub struct Recovery(Arc<AtomicBool>);

impl Recovery {
    pub fn recover(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The swarm; what it was asked for stays readable from a clone.
#[derive(Clone)]
pub struct FakeSwarm {
    local: Option<FakeLayer>,
    opening: Opening,
    opened: Arc<Mutex<Vec<LayerRequest>>>,
}

impl FakeSwarm {
    pub fn absent() -> Self {
        Self::opening(Opening::Fails)
    }

    pub fn opening(opening: Opening) -> Self {
        Self {
            local: None,
            opening,
            opened: Arc::default(),
        }
    }

    pub fn with_local(layer: FakeLayer) -> Self {
        Self {
            local: Some(layer),
            ..Self::absent()
        }
    }

    pub fn opened(&self) -> Vec<LayerRequest> {
        self.opened.lock().unwrap().clone()
    }
}

impl LayerSource for FakeSwarm {
    fn local(
        &self,
        _digest: &Digest,
        _url: &url::Url,
    ) -> BoxFuture<'_, Option<Box<dyn SwarmLayer>>> {
        let local = self.local.clone();
        async move { Some(Box::new(local?) as Box<dyn SwarmLayer>) }.boxed()
    }

    fn open(
        &self,
        request: LayerRequest,
    ) -> BoxFuture<'_, Result<Box<dyn SwarmLayer>, NotDelivered>> {
        self.opened.lock().unwrap().push(request);
        match self.opening.clone() {
            Opening::Layer(layer) => async { Ok(Box::new(layer) as Box<dyn SwarmLayer>) }.boxed(),
            Opening::Hangs => std::future::pending().boxed(),
            Opening::Later(open, layer) => async move {
                open.notified().await;
                Ok(Box::new(layer) as Box<dyn SwarmLayer>)
            }
            .boxed(),
            Opening::Fails => {
                async { Err(NotDelivered::new(Mark::LayerUnswarmable, "no swarm here")) }.boxed()
            }
        }
    }
}

/// A layer of which the swarm may have only the front.
#[derive(Clone)]
pub struct FakeLayer {
    bytes: Bytes,
    has: usize,
    length: u64,
    then: Then,
    is_published: bool,
    recovery: Recovery,
}

/// What follows the bytes that the swarm has, where more are asked for.
#[derive(Clone, Copy)]
pub enum Then {
    Fails(Mark),
    Ends,
    Hangs,
    /// Everything, 64 KiB a second.
    Trickles,
}

impl FakeLayer {
    pub fn whole(bytes: &[u8]) -> Self {
        Self {
            bytes: Bytes::copy_from_slice(bytes),
            has: bytes.len(),
            length: bytes.len() as u64,
            then: Then::Fails(Mark::SwarmStalled),
            is_published: true,
            recovery: Recovery::default(),
        }
    }

    /// Does otherwise after the first `has` bytes.
    pub fn and_then(self, then: Then) -> Self {
        Self { then, ..self }
    }

    /// The swarm does not hear of its bytes.
    pub fn unpublished(self) -> Self {
        Self {
            is_published: false,
            ..self
        }
    }

    /// Has the rest as well, once it recovers.
    pub fn recovering(self, recovery: &Recovery) -> Self {
        Self {
            recovery: recovery.clone(),
            ..self
        }
    }

    /// Stalls after the first `has` bytes.
    pub fn until(bytes: &[u8], has: usize) -> Self {
        Self {
            has,
            ..Self::whole(bytes)
        }
    }
}

impl SwarmLayer for FakeLayer {
    fn length(&self) -> u64 {
        self.length
    }

    fn published(&self, _range: Range<u64>) -> BoxFuture<'static, ()> {
        if self.is_published {
            std::future::ready(()).boxed()
        } else {
            std::future::pending().boxed()
        }
    }

    fn read(&self, range: Range<u64>) -> BoxStream<'static, Result<Bytes, ReadFailure>> {
        let (first, end) = (
            usize::try_from(range.start).unwrap(),
            usize::try_from(range.end).unwrap(),
        );
        let has = if self.recovery.0.load(Ordering::SeqCst) {
            self.bytes.len()
        } else {
            self.has
        };
        let available = self.bytes.slice(first.min(has)..end.min(has));
        let stalls = end > has;
        let parts: Vec<_> = available
            .chunks(PART)
            .map(|part| Ok(Bytes::copy_from_slice(part)))
            .collect();
        let rest = self.bytes.slice(first.max(self.has).min(end)..end);
        let parts = stream::iter(parts);
        match self.then {
            _ if !stalls => parts.boxed(),
            Then::Ends => parts.boxed(),
            Then::Hangs => parts.chain(stream::pending()).boxed(),
            Then::Trickles => {
                let rest: Vec<_> = rest.chunks(PART).map(Bytes::copy_from_slice).collect();
                let rest = stream::iter(rest).then(|part| async move {
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    Ok(part)
                });
                parts.chain(rest).boxed()
            }
            Then::Fails(mark) => {
                let failure = Err(ReadFailure::new(mark, "the swarm does not deliver"));
                parts.chain(stream::once(async { failure })).boxed()
            }
        }
    }
}
