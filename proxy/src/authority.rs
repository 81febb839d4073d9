//! Authorities of URIs: host and port, and nothing else (RFC 3986 section 3.2).

use http::header::HeaderValue;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{StatusCode, Uri};

use crate::marks::Mark;
use crate::mirror::hosts::default_port;
use crate::oci_error::Refusal;

/// The `Host` of an upstream request: the authority as it is written, without a user. A default port
/// stays if it stands there: signatures of stores cover it.
pub(crate) fn host_header(target: &Uri) -> HeaderValue {
    let written = target.authority().map_or("", Authority::as_str);
    let bare = written.rsplit_once('@').map_or(written, |(_, bare)| bare);
    HeaderValue::from_str(bare).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Host and port of a target in one form for all ways to write them: lower case, no default port.
pub(crate) fn plain_host(target: &Uri) -> String {
    let host = host_header(target);
    let host = host.to_str().unwrap_or_default();
    let default = target.scheme().map_or(80, default_port);
    let bare = host.strip_suffix(&format!(":{default}")).unwrap_or(host);
    bare.to_ascii_lowercase()
}

/// Whether both are of one scheme, host and port (RFC 6454 section 4).
pub(crate) fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme() && plain_host(one) == plain_host(other)
}

/// An absolute URI.
///
/// # Errors
/// The authority is more than host and port.
pub(crate) fn assemble(
    scheme: Scheme,
    authority: Authority,
    path: PathAndQuery,
) -> Result<Uri, Refusal> {
    if !is_host_and_port(&authority) {
        return Err(malformed(format!("{authority} is not HOST[:PORT]")));
    }
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path)
        .build();
    uri.map_err(|_| malformed("the request target is malformed"))
}

/// Whether host and port are all there is. The parser lets other text stand behind a colon or a
/// bracket, which connections ignore: `evil.test:x.corp.test` leads to `evil.test` although a
/// list of hosts sees one below `corp.test`.
pub(crate) fn is_host_and_port(authority: &Authority) -> bool {
    let (host, written) = (authority.host(), authority.as_str());
    let rest = written.strip_prefix(host);
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && (port.is_empty() || port.parse::<u16>().is_ok())
    };
    !host.is_empty()
        && rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

/// The refusal of a target that is not understood.
pub(crate) fn malformed(message: impl Into<String>) -> Refusal {
    Refusal::new(
        Mark::TargetMalformed,
        StatusCode::BAD_REQUEST,
        "UNSUPPORTED",
        message,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_header_is_as_it_is_written() {
        for (uri, host, plain) in [
            ("http://reg.test:80/", "reg.test:80", "reg.test"),
            ("http://reg.test:443/", "reg.test:443", "reg.test:443"),
            ("https://Reg.test:443/", "Reg.test:443", "reg.test"),
            ("http://[::1]:5000/", "[::1]:5000", "[::1]:5000"),
            ("http://u:p@reg.test/", "reg.test", "reg.test"),
        ] {
            let uri = uri.parse().unwrap();
            assert_eq!(host_header(&uri), host);
            assert_eq!(plain_host(&uri), plain);
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| is_same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("http://a.test/x", "http://A.test:80/y"));
        assert!(!same("http://a.test/", "https://a.test/"));
        assert!(!same("http://a.test/", "http://a.test:81/"));
        assert!(!same("http://a.test/", "http://b.test/"));
    }
}
