//! Passes a request through to its target, and the answer back, untouched and unbuffered.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};

use crate::authority::host_header;
use crate::body::{ProxyBody, boxed, full, streamed};
use crate::front::continue_gate;
use crate::front::header_rules;
use crate::front::idle::Activity;
use crate::front::upstream::{Upstream, UpstreamError};
use crate::marks::{Mark, set_mark};
use crate::oci_error::Refusal;
use crate::pushes::tee::Tee;
use crate::stats::ProxyStats;

/// While no byte of the request moves: a registry copies a whole layer before it answers the
/// `PUT` that finishes an upload. Harbor's own nginx waits as long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Between two bytes of the answer. Stores pause for seconds; engines give up earlier.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Between two bytes of a refusal, which is small.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);
/// A refusal that is longer is passed as it comes.
const MAX_REFUSAL_BYTES: usize = 4096;

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
        Ok(response) if is_often_short(response.status()) && !is_head => {
            corrected(response, stats).await
        }
        Ok(response) => returned(response, &activity, stats),
        Err(error) => Refusal::from(error).answer(stats),
    }
}

/// Docker-registry announces as many bytes as the blob has, sends an error of a few or none, and closes.
fn is_often_short(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PRECONDITION_FAILED
    )
}

/// A refusal with the body that came, and its length if it is another than was announced.
async fn corrected(response: Response<Incoming>, stats: &Arc<ProxyStats>) -> Response<ProxyBody> {
    let (mut parts, mut body) = response.into_parts();
    parts.headers = header_rules::end_to_end(&parts.headers);
    parts.version = Version::HTTP_11;
    let mut came = BytesMut::new();
    let is_short = loop {
        if came.len() > MAX_REFUSAL_BYTES {
            break false;
        }
        match tokio::time::timeout(REFUSAL_TIMEOUT, body.frame()).await {
            Ok(Some(Ok(frame))) => came.extend(frame.into_data()),
            Ok(None) => break false,
            Ok(Some(Err(_))) | Err(_) => break true,
        }
    };
    let came = came.freeze();
    if is_short {
        let status = parts.status.as_u16();
        set_mark!(stats, Mark::RangeAnswerReplaced, status);
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(came.len()));
        return Response::from_parts(parts, full(came));
    }
    let rest = BodyStream::new(streamed(body));
    let first = stream::once(async { Ok(Frame::data(came)) });
    Response::from_parts(parts, boxed(StreamBody::new(first.chain(rest))))
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
