//! Passes a request through to its target, and the answer back, untouched and unbuffered.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};

use crate::authority::host_header;
use crate::body::{ProxyBody, streamed};
use crate::front::continue_gate;
use crate::front::header_rules;
use crate::front::idle::Activity;
use crate::front::upstream::{Upstream, UpstreamError};
use crate::marks::Mark;
use crate::oci_error::Refusal;
use crate::pushes::tee::Tee;
use crate::stats::ProxyStats;

/// While no byte of the request moves: a registry copies a whole layer before it answers the
/// `PUT` that finishes an upload. Harbor's own nginx waits as long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Between two bytes of the answer. Stores pause for seconds; engines give up earlier.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Sends `request` to `target`; its body also to `tee`. Its own extensions carry the case of the
/// header names.
pub(crate) async fn forward(
    upstream: &Upstream,
    mut request: Request<Incoming>,
    target: Uri,
    via: HeaderValue,
    tee: Option<Tee>,
) -> Response<ProxyBody> {
    let mut headers = header_rules::request_headers(request.headers(), host_header(&target), via);
    // Without this hyper takes a GET of unknown length for one without a body.
    if !request.body().is_end_stream() && request.body().size_hint().exact().is_none() {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let stats = upstream.stats();
    let is_head = request.method() == Method::HEAD;
    *request.headers_mut() = headers;
    *request.uri_mut() = target;
    let host = request.uri().authority().map(ToString::to_string);
    let activity = Activity::new();
    let request =
        continue_gate::hold_back(request, Arc::clone(stats)).map(|body| activity.of_body(body));
    let request = request.map(|body| match tee {
        Some(tee) => tee.of_body(body),
        None => body,
    });
    let sent = activity.limit(HEAD_TIMEOUT, upstream.send(request)).await;
    let host = host.unwrap_or_default();
    match sent.unwrap_or(Err(UpstreamError::TimedOut { host })) {
        Ok(response) if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && !is_head => {
            unsatisfiable(response.headers(), stats)
        }
        Ok(response) => returned(response, &activity, stats),
        Err(error) => Refusal::from(error).answer(stats),
    }
}

/// The registry's refusal of a range with a body of our own: docker-registry announces as many
/// bytes as the blob has, sends an error of a few, and closes.
fn unsatisfiable(received: &HeaderMap, stats: &ProxyStats) -> Response<ProxyBody> {
    let refusal = Refusal::new(
        Mark::RangeAnswerReplaced,
        StatusCode::RANGE_NOT_SATISFIABLE,
        "RANGE_INVALID",
        "the range is outside of the content",
    );
    let mut response = refusal.answer(stats);
    let headers = response.headers_mut();
    for (name, value) in &header_rules::end_to_end(received) {
        if ![CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING].contains(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    response
}

fn returned(
    response: Response<Incoming>,
    activity: &Activity,
    stats: &Arc<ProxyStats>,
) -> Response<ProxyBody> {
    let mut response =
        response.map(|body| activity.limit_body(BODY_TIMEOUT, streamed(body), Arc::clone(stats)));
    *response.headers_mut() = header_rules::end_to_end(response.headers());
    // The proxy's own version, not that of the next hop: RFC 9110 section 2.5.
    *response.version_mut() = Version::HTTP_11;
    response
}
