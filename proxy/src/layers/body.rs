//! The body of a layer's response: one unbroken sequence of bytes, from the swarm as long as it
//! delivers and from the registry otherwise.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_cluster::trace;
use futures_util::future::{self, Either};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt as _};
use hyper::body::Frame;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::layers::fallback::{FallbackError, RegistryBlob, RegistryBytes};
use crate::layers::source::{ReadFailure, SwarmLayer};
use crate::layers::swarm_pace::{SwarmPace, Verdict};
use crate::marks::{Mark, set_mark};
use crate::spans;
use crate::spans::RegistryPart;
use crate::stats::ProxyStats;

/// The swarm reports its own stalls, the slowest after 15 seconds; this guards against a
/// reader that does not.
const SWARM_TIMEOUT: Duration = Duration::from_secs(20);
/// Failures in a row, without a byte in between, before the response is given up. The pauses between
/// them give a registry about six seconds to restart.
const MAX_FAILURES: u32 = 12;
/// Failures after a registry has refused the caller, whom it is not asked for again in this response.
const MAX_FAILURES_REFUSED: u32 = 3;
/// A registry that pauses for longer is read beside the swarm: whichever has the next bytes delivers
/// them. A gateway that scans a layer holds each request for it anew.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(2);
const MIN_RETRY_INTERVAL: Duration = Duration::from_millis(100);
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(3);

/// Why bytes come from the registry although the swarm delivers.
const SLOW: &str = "the swarm is slow";
/// Why bytes come from the registry although the swarm is well.
const AHEAD: &str = "a lazy reader wants bytes that the swarm gets last";

/// Delivers `position..end`.
pub(crate) struct LayerBody {
    position: u64,
    end: u64,
    layer: Box<dyn SwarmLayer>,
    registry: RegistryBlob,
    source: Source,
    failures: u32,
    /// The registry does not let this caller have the layer, or has it no longer.
    is_refused: bool,
    pace: SwarmPace,
    stats: Arc<ProxyStats>,
    /// The request's: the body outlives the call that answered it.
    span: tracing::Span,
    /// The request's in traces.
    trace: tracing::Span,
}

enum Source {
    Swarm(BoxStream<'static, Result<Bytes, ReadFailure>>),
    Registry(RegistryBytes, RegistryPart),
}

/// Why a source stopped.
#[derive(Debug, thiserror::Error)]
enum SourceFailure {
    #[error(transparent)]
    Swarm(#[from] ReadFailure),
    #[error("the swarm is silent")]
    SwarmSilent,
    #[error("the swarm ended too early")]
    SwarmShort,
    #[error(transparent)]
    Registry(#[from] FallbackError),
}

impl SourceFailure {
    fn mark(&self) -> Mark {
        match self {
            Self::Swarm(failure) => failure.mark,
            Self::SwarmSilent => Mark::SwarmSilent,
            Self::SwarmShort => Mark::SwarmShort,
            Self::Registry(error) => error.mark(),
        }
    }
}

/// Neither source delivers. The connection is closed, so that the part is not taken for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the layer is not delivered, by neither the swarm nor the registry")]
pub(crate) struct LayerLost;

impl LayerBody {
    /// `ahead` are bytes of the registry that the response begins with.
    pub(crate) fn new(
        layer: Box<dyn SwarmLayer>,
        range: Range<u64>,
        ahead: Option<RegistryBytes>,
        registry: RegistryBlob,
        stats: Arc<ProxyStats>,
    ) -> Self {
        let trace = trace::current();
        let source = match ahead {
            Some(bytes) => {
                layer.note_registry_reason(AHEAD);
                spans::registry_reason(&trace, AHEAD);
                Source::Registry(bytes, RegistryPart::begin(AHEAD, range.start))
            }
            None => Source::Swarm(layer.read(range.clone())),
        };
        let span = tracing::Span::current();
        Self {
            position: range.start,
            end: range.end,
            layer,
            registry,
            source,
            failures: 0,
            is_refused: false,
            pace: SwarmPace::default(),
            stats,
            span,
            trace,
        }
    }

    /// The body's frames. Each is asked for when the client has taken the one before.
    pub(crate) fn frames(self) -> impl Stream<Item = Result<Frame<Bytes>, LayerLost>> + Send {
        stream::try_unfold(self, |mut body| async move {
            let (span, trace) = (body.span.clone(), body.trace.clone());
            let bytes = trace::within(trace, body.next().instrument(span)).await?;
            Ok(bytes.map(|bytes| (Frame::data(bytes), body)))
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, LayerLost> {
        if self.position >= self.end {
            tracing::debug!(counts = ?self.stats.counts(), "layer delivered");
            return Ok(None);
        }
        loop {
            let began = Instant::now();
            match self.take().await {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => {
                    self.position += bytes.len() as u64;
                    self.failures = 0;
                    self.keep_pace(bytes.len(), began.elapsed()).await;
                    return Ok(Some(bytes));
                }
                Err(failure) => self.change_source(failure).await?,
            }
        }
    }

    /// The next bytes of the current source, never more than the response has room for.
    async fn take(&mut self) -> Result<Bytes, SourceFailure> {
        let room = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        match &mut self.source {
            Source::Swarm(reader) => {
                let read = tokio::time::timeout(SWARM_TIMEOUT, reader.next()).await;
                let read = read.map_err(|_| SourceFailure::SwarmSilent)?;
                let mut bytes = read.ok_or(SourceFailure::SwarmShort)??;
                bytes.truncate(room);
                self.stats.count_swarm_bytes(bytes.len());
                Ok(bytes)
            }
            Source::Registry(registry, part) => {
                let wanted = self.position..self.end;
                let bytes = match first_of(registry.next(), self.layer.as_ref(), wanted).await {
                    Either::Left(bytes) => bytes?,
                    Either::Right((mut bytes, reader)) => {
                        tracing::debug!("swarm delivers again, registry is left");
                        self.source = Source::Swarm(reader);
                        bytes.truncate(room);
                        self.stats.count_swarm_bytes(bytes.len());
                        return Ok(bytes);
                    }
                };
                part.add(bytes.len());
                self.stats.count_fallback_bytes(bytes.len());
                self.layer.note_from_registry(bytes.len() as u64);
                Ok(bytes)
            }
        }
    }

    /// Tries the registry while the swarm is slow, and goes back if that is no better. Bytes were
    /// waited for this long.
    async fn keep_pace(&mut self, bytes: usize, waited: Duration) {
        let (position, end) = (self.position, self.end);
        if let Source::Registry(..) = self.source {
            match self.pace.note_registry(bytes, waited) {
                Some(Verdict::Stay) => self.layer.note_slow(),
                Some(Verdict::Return {
                    registry_rate,
                    swarm_rate,
                }) => {
                    set_mark!(
                        self.stats,
                        Mark::RegistrySlower,
                        position,
                        end,
                        registry_rate,
                        swarm_rate
                    );
                    self.source = Source::Swarm(self.layer.read(position..end));
                }
                None => {}
            }
            return;
        }
        let Some(rate) = self.pace.note_swarm(bytes, waited, end - position) else {
            return;
        };
        match self.registry.open(position, end).await {
            Ok(registry) => {
                set_mark!(self.stats, Mark::SwarmSlow, position, end, rate);
                self.stats.count_fallback();
                self.layer.note_registry_reason(SLOW);
                spans::registry_reason(&self.trace, SLOW);
                self.pace.try_registry(rate);
                self.source = Source::Registry(registry, RegistryPart::begin(SLOW, position));
            }
            Err(error) => {
                tracing::debug!(position, end, %error, "registry not tried although the swarm is slow");
                self.pace.give_up_trial();
            }
        }
    }

    /// After the swarm the registry. After the registry the swarm once more, which may have
    /// recovered, or fails at once.
    async fn change_source(&mut self, failure: SourceFailure) -> Result<(), LayerLost> {
        self.failures += 1;
        let (position, end) = (self.position, self.end);
        if failure.mark() == Mark::LayerWrong {
            // What was sent is lost: the rest would be fetched for nothing.
            set_mark!(self.stats, Mark::LayerWrong, position, end, reason = %failure);
            return Err(LayerLost);
        }
        let most = if self.is_refused {
            MAX_FAILURES_REFUSED
        } else {
            MAX_FAILURES
        };
        if self.failures > most || (self.is_refused && failure.mark() == Mark::SwarmVoid) {
            set_mark!(self.stats, Mark::LayerLost, position, end, reason = %failure);
            return Err(LayerLost);
        }
        if matches!(self.source, Source::Swarm(_)) {
            set_mark!(self.stats, failure.mark(), position, end, reason = %failure);
            if !self.is_refused && self.go_to_registry(&failure.to_string()).await {
                return Ok(());
            }
        } else {
            set_mark!(self.stats, failure.mark(), position, end, reason = %failure);
            if self.pace.is_trying() {
                self.pace.give_up_trial();
                self.source = Source::Swarm(self.layer.read(position..end));
                return Ok(());
            }
        }
        tokio::time::sleep(self.pause()).await;
        self.source = Source::Swarm(self.layer.read(position..end));
        Ok(())
    }

    /// Asks the registry for the rest. True: something delivers it.
    async fn go_to_registry(&mut self, reason: &str) -> bool {
        let (position, end) = (self.position, self.end);
        self.stats.count_fallback();
        self.layer.note_registry_reason(reason);
        spans::registry_reason(&self.trace, reason);
        let opening = self.registry.open(position, end);
        match first_of(opening, self.layer.as_ref(), position..end).await {
            Either::Left(Ok(registry)) => {
                let part = RegistryPart::begin(reason, position);
                self.source = Source::Registry(registry, part);
                true
            }
            Either::Right((bytes, reader)) => {
                tracing::debug!("swarm delivers again, registry is left");
                let first = stream::once(async { Ok(bytes) });
                self.source = Source::Swarm(first.chain(reader).boxed());
                true
            }
            Either::Left(Err(error)) => {
                set_mark!(self.stats, error.mark(), position, end, reason = %error);
                self.is_refused |= error.is_refusal();
                false
            }
        }
    }

    fn pause(&self) -> Duration {
        // Each round fails twice: at the swarm and at the registry.
        let doubled = 2_u32.saturating_pow((self.failures / 2).saturating_sub(1));
        MIN_RETRY_INTERVAL
            .saturating_mul(doubled)
            .min(MAX_RETRY_INTERVAL)
    }
}

type SwarmReader = BoxStream<'static, Result<Bytes, ReadFailure>>;

/// What the registry brings, or once it pauses the next bytes of the swarm if they are there before.
async fn first_of<T>(
    from_registry: impl Future<Output = T>,
    layer: &dyn SwarmLayer,
    wanted: Range<u64>,
) -> Either<T, (Bytes, SwarmReader)> {
    let from_registry = pin!(from_registry);
    let from_swarm = pin!(async {
        tokio::time::sleep(PAUSE_TIMEOUT).await;
        swarm_delivers(layer, wanted).await
    });
    match future::select(from_registry, from_swarm).await {
        Either::Left((found, _)) => Either::Left(found),
        Either::Right((found, _)) => Either::Right(found),
    }
}

/// The swarm's next bytes, whenever they come; never, if it is void.
async fn swarm_delivers(layer: &dyn SwarmLayer, wanted: Range<u64>) -> (Bytes, SwarmReader) {
    loop {
        let mut reader = layer.read(wanted.clone());
        match reader.next().await {
            Some(Ok(bytes)) if !bytes.is_empty() => return (bytes, reader),
            Some(Err(failure)) if failure.mark == Mark::SwarmVoid => future::pending().await,
            _ => tokio::time::sleep(PAUSE_TIMEOUT).await,
        }
    }
}
