//! Header fields of requests to sources, and of their answers.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The headers of a request for content: the caller's, less those that are ours.
pub(super) fn header_map(headers: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value))
            && !is_ours(&name)
        {
            map.append(name, value);
        }
    }
    map.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    map
}

/// Headers that this request sets or leaves out by itself: the body has to be the content's own
/// bytes, all of them, and the connection is shared (RFC 9110 section 7.6.1).
fn is_ours(name: &HeaderName) -> bool {
    const OURS: [HeaderName; 17] = [
        header::RANGE,
        header::IF_RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
        header::ACCEPT_ENCODING,
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::EXPECT,
        header::CONNECTION,
        header::UPGRADE,
        header::PROXY_AUTHORIZATION,
        HeaderName::from_static("keep-alive"),
    ];
    OURS.contains(name)
}

/// What goes to another origin.
pub(super) fn without_callers_headers(headers: &HeaderMap) -> HeaderMap {
    let own = [
        header::RANGE,
        header::ACCEPT_ENCODING,
        header::ACCEPT,
        header::USER_AGENT,
    ];
    let mut kept = HeaderMap::new();
    for name in own {
        for value in headers.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// First byte and total of `Content-Range: bytes first-last/total` (RFC 9110 section 14.4).
pub(super) fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = if total == "*" {
        None
    } else {
        Some(total.parse().ok()?)
    };
    Some((first.parse().ok()?, total))
}

/// `ETag`, else `Last-Modified`, else nothing.
pub(super) fn validator(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::ETAG)
        .or_else(|| headers.get(header::LAST_MODIFIED));
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// Whether an answer is of a type that registries give blobs, and no page for people has.
pub(super) fn is_of_content(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    let bare = media_type.and_then(|text| text.split(';').next());
    bare.is_some_and(|bare| {
        let bare = bare.trim().to_ascii_lowercase();
        bare == "application/octet-stream" || bare.starts_with("application/vnd.")
    })
}
