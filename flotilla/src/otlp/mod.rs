//! Traces of requests, to an OpenTelemetry collector (OTLP over HTTP with protobuf bodies).
//!
//! The spans are `tracing`'s, of one target ([`trace::TARGET`]); here they are sampled, named for
//! other processes and exported. A collector that is away or slow costs spans, which are counted,
//! and nothing else.

mod collector;
mod settings;
mod span_queue;

use std::time::Duration;

use anyhow::Context as _;
use flotilla_cluster::trace;
use flotilla_cluster::trace::{Propagator, TraceParent};
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

pub(crate) use self::settings::{OtlpEndpoint, TraceRatio};
use self::span_queue::Exporting;

/// For the last spans to leave at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Traces that are being exported.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    exporting: Exporting,
}

impl Traces {
    /// Starts exporting, if an endpoint is set. `instance`: the node's name.
    ///
    /// # Errors
    /// The system's TLS cannot be used, or the collector's headers of the environment are malformed.
    pub(crate) fn start(
        endpoint: Option<&OtlpEndpoint>,
        ratio: TraceRatio,
        service: &'static str,
        instance: &str,
    ) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = endpoint.and_then(OtlpEndpoint::url) else {
            return Ok(None);
        };
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", instance.to_owned()),
            ])
            .build();
        let exporter = collector::exporter(&endpoint, &resource).context("--otlp-endpoint")?;
        let (queue, exporting) = span_queue::start(exporter);
        let by_ratio = Sampler::TraceIdRatioBased(ratio.0);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(queue)
            .with_sampler(Sampler::ParentBased(Box::new(by_ratio)))
            .with_resource(resource)
            .build();
        trace::set_propagator(Box::new(Names));
        Ok(Some(Self {
            provider,
            exporting,
        }))
    }

    /// What makes the spans.
    pub(crate) fn tracer(&self) -> SdkTracer {
        self.provider.tracer("flotilla")
    }

    /// Sends what waits, and waits for it no longer than [`FLUSH_TIMEOUT`].
    pub(crate) async fn finish(self) {
        self.exporting.finish(FLUSH_TIMEOUT).await;
    }
}

/// OpenTelemetry's names of `tracing`'s spans.
struct Names;

impl Propagator for Names {
    fn name_of(&self, span: &Span) -> Option<TraceParent> {
        let context = span.context();
        let name = context.span().span_context().clone();
        name.is_valid().then(|| TraceParent {
            trace_id: name.trace_id().to_bytes(),
            span_id: name.span_id().to_bytes(),
            is_sampled: name.is_sampled(),
        })
    }

    fn adopt(&self, span: &Span, parent: &TraceParent) {
        let flags = TraceFlags::default().with_sampled(parent.is_sampled);
        let parent = SpanContext::new(
            TraceId::from_bytes(parent.trace_id),
            SpanId::from_bytes(parent.span_id),
            flags,
            true,
            TraceState::default(),
        );
        let context = Context::new().with_remote_span_context(parent);
        // Spans of other targets than ours have no parents.
        let _ = span.set_parent(context);
    }
}
