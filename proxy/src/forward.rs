//! Passes a request through to its target, and the answer back, untouched and unbuffered.

use http::header::TRANSFER_ENCODING;
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::{Body as _, Incoming};

use crate::body::{ProxyBody, streamed};
use crate::continue_gate;
use crate::header_rules;
use crate::oci_error::Refusal;
use crate::target::host_header;
use crate::upstream::Upstream;

/// Sends `request` to `target`. Its own extensions carry the case of the header names.
pub(crate) async fn forward(
    upstream: &Upstream,
    mut request: Request<Incoming>,
    target: Uri,
    via: HeaderValue,
) -> Response<ProxyBody> {
    let mut headers = header_rules::request_headers(request.headers(), host_header(&target), via);
    // Without this hyper takes a GET of unknown length for one without a body.
    if !request.body().is_end_stream() && request.body().size_hint().exact().is_none() {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    *request.headers_mut() = headers;
    *request.uri_mut() = target;
    match upstream.send(continue_gate::hold_back(request)).await {
        Ok(response) => returned(response),
        Err(error) => {
            tracing::warn!(%error, "no answer to pass on");
            Refusal::from(error).into()
        }
    }
}

fn returned(response: Response<Incoming>) -> Response<ProxyBody> {
    let mut response = response.map(streamed);
    *response.headers_mut() = header_rules::end_to_end(response.headers());
    // The proxy's own version, not that of the next hop: RFC 9110 section 2.5.
    *response.version_mut() = Version::HTTP_11;
    response
}
