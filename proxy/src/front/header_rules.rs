//! Which header fields cross the proxy: RFC 9110 section 7.6.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The headers for the next hop of a request: hop-by-hop fields out, the target's `Host` in,
/// the proxy's `Via` appended; everything else as it was, duplicates in their order.
pub(crate) fn request_headers(
    received: &HeaderMap,
    host: HeaderValue,
    via: HeaderValue,
) -> HeaderMap {
    let mut headers = end_to_end(received);
    if accepts_trailers(received) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    // Inserting where the field stands keeps its place; registries build their token realm
    // from it, so it must name the registry.
    headers.insert(HOST, host);
    headers.append(VIA, via);
    headers
}

/// The end-to-end fields, in their order. A new map, as removing would reorder the old one.
pub(crate) fn end_to_end(received: &HeaderMap) -> HeaderMap {
    let named = named_by_connection(received);
    let mut headers = HeaderMap::with_capacity(received.keys_len() + 2);
    for (name, value) in received {
        if !is_hop_by_hop(name) && !named.contains(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

/// Whether a `Via` shows that the request has been here before.
pub(crate) fn has_passed(received: &HeaderMap, pseudonym: &str) -> bool {
    let hops = received
        .get_all(VIA)
        .iter()
        .filter_map(|value| value.to_str().ok());
    hops.flat_map(|value| value.split(','))
        .any(|hop| hop.split_ascii_whitespace().nth(1) == Some(pseudonym))
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    [
        CONNECTION,
        PROXY_CONNECTION,
        KEEP_ALIVE,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
    ]
    .contains(name)
}

/// What `Connection` names is for this hop only, except the fields without which the message
/// would become another one.
fn named_by_connection(received: &HeaderMap) -> Vec<HeaderName> {
    let values = received
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name: &HeaderName| *name != HOST && *name != CONTENT_LENGTH)
        .collect()
}

fn accepts_trailers(received: &HeaderMap) -> bool {
    let values = received
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn hop_by_hop_fields_stay_on_their_hop() {
        let received = map(&[
            ("Connection", "close, X-Hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authorization", "Basic abc"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "websocket"),
            ("Trailer", "X-Sum"),
            ("X-End", "1"),
        ]);
        assert_eq!(
            end_to_end(&received),
            map(&[("Trailer", "X-Sum"), ("X-End", "1")])
        );
    }

    #[test]
    fn connection_cannot_take_the_framing_away() {
        let received = map(&[
            ("Connection", "content-length, host"),
            ("Content-Length", "3"),
            ("Host", "a"),
        ]);
        assert_eq!(
            end_to_end(&received),
            map(&[("Content-Length", "3"), ("Host", "a")])
        );
    }

    #[test]
    fn the_order_and_all_duplicates_are_kept() {
        let received = map(&[
            ("Accept", "a"),
            ("Host", "x"),
            ("Accept", "b"),
            ("Connection", "y"),
            ("Z", "1"),
        ]);
        let sent = request_headers(
            &received,
            HeaderValue::from_static("registry"),
            HeaderValue::from_static("1.1 flotilla-1"),
        );
        let sent: Vec<_> = sent
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        let expected = [
            ("accept", "a"),
            ("accept", "b"),
            ("host", "registry"),
            ("z", "1"),
            ("via", "1.1 flotilla-1"),
        ];
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_loop_is_seen_in_any_via() {
        let received = map(&[
            ("Via", "1.0 fred, 1.1 flotilla-1 (comment)"),
            ("Via", "1.1 other"),
        ]);
        assert!(has_passed(&received, "flotilla-1"));
        assert!(!has_passed(&received, "flotilla-2"));
    }
}
