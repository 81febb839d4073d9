//! Spans of the requests of engines, see [`flotilla_cluster::trace`]. Names and attributes are those of
//! the OpenTelemetry semantic conventions for HTTP; flotilla's own begin with `flotilla.`.

use flotilla_cluster::child_span;
use flotilla_cluster::trace;
use flotilla_registry::names::route::{Route, shown_path};
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, Uri};
use hyper::body::Body as _;
use tracing::Span;
use tracing::field::Empty;

use crate::body::{Passing, ProxyBody, inspected};

/// The span of a request of an engine, from its head to the end of its answer's body.
pub(crate) fn of_engine<B>(request: &Request<B>) -> Span {
    let (method, path) = (request.method(), request.uri().path());
    let span = tracing::info_span!(
        target: trace::TARGET,
        parent: None,
        "GET",
        otel.name = Empty,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = Empty,
        http.route = Empty,
        http.response.status_code = Empty,
        http.response.body.size = Empty,
        url.path = Empty,
        server.address = Empty,
        "error.type" = Empty,
        flotilla.digest = Empty,
        flotilla.answered_by = Empty,
        flotilla.registry_reason = Empty,
        flotilla.pieces = Empty,
        flotilla.pieces.without_span = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    trace::received(&span, request.headers());
    let (name, route) = (method_name(method), Route::of(path));
    span.record("otel.name", format!("{name} {route}"));
    span.record("http.request.method", name);
    span.record("http.route", route.as_str());
    span.record("url.path", shown_path(path));
    span
}

/// The span of a request to a registry.
pub(crate) fn to_registry(method: &Method, url: &Uri) -> Span {
    let (name, route) = (method_name(method), Route::of(url.path()));
    child_span!(
        "GET",
        otel.name = format!("{name} {route}"),
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = name,
        http.response.status_code = Empty,
        url.path = shown_path(url.path()),
        server.address = url.host(),
        server.port = url.port_u16().map(i64::from),
        "error.type" = Empty,
    )
}

/// The conventions' own word for methods other than these.
fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}

/// Notes what answers the request that this task works for.
pub(crate) fn answered_by(source: &'static str) {
    trace::current().record("flotilla.answered_by", source);
}

/// Notes why bytes of `request` come from the registry.
pub(crate) fn registry_reason(request: &Span, reason: &str) {
    if !request.is_disabled() {
        request.record("flotilla.registry_reason", trace::harmless(reason));
    }
}

/// Ends `span` with the body of its answer.
pub(crate) fn until_answered(span: Span, response: Response<ProxyBody>) -> Response<ProxyBody> {
    if span.is_disabled() {
        return response;
    }
    let status = response.status().as_u16();
    span.record("http.response.status_code", i64::from(status));
    // A mistake of the engine is not an error of the server.
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
    let announced = response.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    response.map(|body| {
        let mut answer = TracedAnswer {
            is_whole: body.is_end_stream(),
            announced,
            bytes: 0,
            span,
        };
        inspected(body, move |passing| answer.note(passing))
    })
}

/// What of an answer's body has passed. Ends the span when it is dropped.
struct TracedAnswer {
    span: Span,
    bytes: u64,
    /// hyper does not ask for the end of a body whose length it has sent.
    announced: Option<u64>,
    is_whole: bool,
}

impl TracedAnswer {
    fn note(&mut self, passing: Passing<'_>) {
        match passing {
            Passing::Frame { frame, is_last } => {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.is_whole = is_last;
            }
            Passing::End => self.is_whole = true,
            Passing::Failure => {}
        }
    }
}

impl Drop for TracedAnswer {
    fn drop(&mut self) {
        self.span
            .record("http.response.body.size", trace::number(self.bytes));
        if !self.is_whole && self.announced != Some(self.bytes) {
            self.span.record("error.type", "broken_off");
            self.span.record("otel.status_code", "ERROR");
        }
        // A span lasts until it was left the last time.
        self.span.in_scope(|| {});
    }
}

/// Bytes of a layer that the registry sends in the swarm's place.
pub(crate) struct RegistryPart {
    span: Span,
    bytes: u64,
}

impl RegistryPart {
    /// `reason`: why the swarm does not.
    pub(crate) fn begin(reason: &str, offset: u64) -> Self {
        let span = child_span!(
            "registry bytes",
            flotilla.registry_reason = trace::harmless(reason),
            flotilla.offset = trace::number(offset),
            flotilla.bytes = Empty,
        );
        Self { span, bytes: 0 }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

impl Drop for RegistryPart {
    fn drop(&mut self) {
        self.span
            .record("flotilla.bytes", trace::number(self.bytes));
    }
}
