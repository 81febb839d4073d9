//! Spans of requests that are traced over several processes.
//!
//! They have a [`TARGET`] of their own: only an exporter of traces enables it; a span
//! that is not enabled costs one load. This crate and those above it know `tracing` alone; how the
//! name of a trace gets into a span and out of it is up to the program, see [`set_propagator`].

mod parent;
mod pieces;
mod text;

use std::sync::OnceLock;

use http::HeaderMap;
use tracing::{Instrument as _, Span};

pub use self::parent::TraceParent;
pub use self::pieces::{PieceArrival, PieceSender, PieceTraces, Waiting};
pub use self::text::harmless;

/// The target of all spans that are exported, and of nothing else.
pub const TARGET: &str = "flotilla_trace";

tokio::task_local! {
    /// The request that this task works for.
    static REQUEST: Span;
}

static PROPAGATOR: OnceLock<Box<dyn Propagator>> = OnceLock::new();

/// Knows the names that spans have outside of this process.
pub trait Propagator: Send + Sync {
    /// The name of `span`, as a parent of others.
    fn name_of(&self, span: &Span) -> Option<TraceParent>;

    /// Makes `span`, which has just been made, a child of `parent`.
    fn adopt(&self, span: &Span, parent: &TraceParent);
}

/// Sends and reads the names of spans over HTTP from now on. The first one stays.
pub fn set_propagator(propagator: Box<dyn Propagator>) {
    // A process has one exporter: a second propagator would belong to another.
    let _ = PROPAGATOR.set(propagator);
}

/// The parent that the request of `span` names to its server.
pub fn traceparent_of(span: &Span) -> Option<TraceParent> {
    let propagator = PROPAGATOR.get().filter(|_| !span.is_disabled())?;
    propagator.name_of(span)
}

/// Makes `span`, which has just been made, a child of what the headers of its request name, if
/// they name one. What is malformed, or there twice, is as if it were not there (W3C Trace Context,
/// section 3.2).
pub fn received(span: &Span, headers: &HeaderMap) {
    if let Some(propagator) = PROPAGATOR.get()
        && !span.is_disabled()
        && let Some(parent) = TraceParent::of(headers)
    {
        propagator.adopt(span, &parent);
    }
}

/// Does `work` for the request that `span` stands for.
pub async fn within<F: Future>(span: Span, work: F) -> F::Output {
    if span.is_disabled() {
        return work.await;
    }
    REQUEST.scope(span.clone(), work).instrument(span).await
}

/// The request that this task works for; a disabled span where none is traced.
pub fn current() -> Span {
    REQUEST
        .try_with(Span::clone)
        .unwrap_or_else(|_| Span::none())
}

/// A span below the request that this task works for; a disabled one where none is traced.
#[macro_export]
macro_rules! child_span {
    ($name:literal, $($fields:tt)*) => {{
        let parent = $crate::trace::current();
        if parent.is_disabled() {
            ::tracing::Span::none()
        } else {
            ::tracing::info_span!(target: $crate::trace::TARGET, parent: &parent, $name, $($fields)*)
        }
    }};
}

/// A number as exporters take it: OpenTelemetry's are signed.
pub fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Notes the answer to a request of ours; without one, why (a word of few, never text from outside).
pub fn answered(span: &Span, status: Result<u16, &'static str>) {
    match status {
        Ok(status) => {
            span.record("http.response.status_code", i64::from(status));
            if status >= 400 {
                span.record("otel.status_code", "ERROR");
            }
        }
        Err(kind) => {
            span.record("error.type", kind);
            span.record("otel.status_code", "ERROR");
        }
    }
}
