//! What a request asks for: RFC 9112 section 3.2.

use http::header::{HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri};

use crate::authority::{assemble, malformed};
use crate::marks::Mark;
use crate::mirror::hosts::MirrorHosts;
use crate::mirror::naming::{Mirrored, mirrored};
use crate::oci_error::Refusal;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To an HTTP server, as this absolute URI.
    Upstream(Uri),
    /// To the proxy as a mirror of registries.
    Mirror(Mirrored),
    /// Through a tunnel.
    Tunnel(Authority),
}

/// How a request came to the proxy.
#[derive(Clone, Debug)]
pub(crate) enum Entrance {
    /// On its listener.
    Listener,
    /// Inside an intercepted tunnel to this registry.
    Tunnel(Authority),
}

impl Target {
    pub(crate) fn of<B>(
        request: &Request<B>,
        entrance: &Entrance,
        mirrors: &MirrorHosts,
    ) -> Result<Self, Refusal> {
        let uri = request.uri();
        if let Entrance::Tunnel(registry) = entrance {
            return intercepted(request, registry).map(Self::Upstream);
        }
        if request.method() == Method::CONNECT {
            let authority = uri
                .authority()
                .filter(|authority| authority.port_u16().is_some());
            let authority = authority.ok_or_else(|| malformed("CONNECT needs HOST:PORT"))?;
            return Ok(Self::Tunnel(authority.clone()));
        }
        match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) => absolute(uri, scheme, authority).map(Self::Upstream),
            _ => mirrored(uri, request.headers(), mirrors).map(Self::Mirror),
        }
    }
}

/// Inside a tunnel there is one server; a request that names another one is misdirected
/// (RFC 9110 section 7.4).
fn intercepted<B>(request: &Request<B>, registry: &Authority) -> Result<Uri, Refusal> {
    let uri = request.uri();
    if request.method() == Method::CONNECT {
        return Err(malformed("a tunnel inside a tunnel"));
    }
    let host = request.headers().get(HOST).map(HeaderValue::as_bytes);
    let named = match (uri.authority(), host) {
        (Some(authority), _) => Some(authority.clone()),
        (None, Some(host)) => {
            let host = Authority::try_from(host);
            Some(host.map_err(|_| malformed("the Host is malformed"))?)
        }
        (None, None) => None,
    };
    let is_same = |named: &Authority| {
        named.host().eq_ignore_ascii_case(registry.host())
            && named.port_u16().unwrap_or(443) == registry.port_u16().unwrap_or(443)
    };
    if named.as_ref().is_some_and(|named| !is_same(named)) {
        let message = format!("this is a tunnel to {registry}");
        return Err(Refusal::new(
            Mark::TunnelMisused,
            StatusCode::MISDIRECTED_REQUEST,
            "UNSUPPORTED",
            message,
        ));
    }
    if uri.path() == "*" {
        return Err(malformed("requests for * have no target here"));
    }
    let path = uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    // As the client wrote it: it may leave the default port out, and the registry may sign its name.
    assemble(
        Scheme::HTTPS,
        named.unwrap_or_else(|| registry.clone()),
        path,
    )
}

fn absolute(uri: &Uri, scheme: &Scheme, authority: &Authority) -> Result<Uri, Refusal> {
    if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
        return Err(malformed(format!("scheme {scheme} is not http or https")));
    }
    let authority = match authority.as_str().rsplit_once('@') {
        None => authority.clone(),
        Some((_, bare)) => bare
            .parse()
            .map_err(|_| malformed("the host is malformed"))?,
    };
    let path = uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    assemble(scheme.clone(), authority, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::hosts::Registry;

    fn target(method: &str, uri: &str, registry: Option<&str>) -> Result<Target, Refusal> {
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let default = registry.map(|url| Registry::from_url(&url.parse().unwrap()).unwrap());
        let mirrors = MirrorHosts {
            default,
            allowed: ["other.test", "*.corp.test"]
                .map(|pattern| pattern.parse().unwrap())
                .to_vec(),
        };
        Target::of(&request, &Entrance::Listener, &mirrors)
    }

    fn upstream(uri: &str) -> Result<Target, Refusal> {
        Ok(Target::Upstream(uri.parse().unwrap()))
    }

    #[test]
    fn an_absolute_target_is_taken_as_it_is() {
        let uri = "http://reg.test:5000/v2/a%2Fb//c?_state=a%3D%3D&ns=x";
        assert_eq!(target("GET", uri, None), upstream(uri));
        assert_eq!(
            target("GET", "http://user:secret@reg.test/x", None),
            upstream("http://reg.test/x")
        );
    }

    #[test]
    fn nothing_may_stand_behind_the_host() {
        assert!(target("GET", "http://evil.test:x.corp.test/", None).is_err());
    }

    #[test]
    fn inside_a_tunnel_the_host_is_as_the_client_writes_it() {
        let registry: Authority = "reg.test:443".parse().unwrap();
        let of = |host: &str| {
            let request = Request::builder().uri("/v2/").header(HOST, host);
            let request = request.body(()).unwrap();
            Target::of(
                &request,
                &Entrance::Tunnel(registry.clone()),
                &MirrorHosts::default(),
            )
        };
        assert_eq!(of("Reg.test"), upstream("https://Reg.test/v2/"));
        assert_eq!(of("reg.test:443"), upstream("https://reg.test:443/v2/"));
        assert!(of("reg.test:444").is_err());
    }

    #[test]
    fn malformed_targets_are_refused() {
        for uri in [
            "ftp://a/b",
            "/v2/?ns=a%2Fb",
            "/v2/?ns=u@other.test",
            "/v2/?ns=other.test&ns=other.test",
            "*",
        ] {
            let refusal = target("GET", uri, Some("http://reg.test")).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{uri}");
        }
    }

    #[test]
    fn connect_needs_a_port() {
        assert_eq!(
            target("CONNECT", "[::1]:443", None),
            Ok(Target::Tunnel("[::1]:443".parse().unwrap()))
        );
        assert!(target("CONNECT", "reg.test", None).is_err());
    }
}
