//! What a request asks for: RFC 9112 section 3.2, and containerd's `ns` for mirrors.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use flotilla_registry::names::api_path;
use http::header::{HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri};
use url::form_urlencoded;

use crate::marks::Mark;
use crate::mirror::hosts::{MirrorHosts, Registry, default_port};
use crate::oci_error::Refusal;

/// Where clients get tokens for the mirrored registries.
pub(crate) const TOKEN_PATH: &str = "/flotilla/v1/token";

/// Ends an IPv6 address in a path.
const IPV6_LITERAL: &str = ".ipv6-literal";

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To an HTTP server, as this absolute URI.
    Upstream(Uri),
    /// To a registry that is named in the path, `/v2/HOST[:PORT]/REPOSITORY/…`.
    PathMirror {
        /// The host as the client wrote it.
        host: String,
        /// What is meant.
        target: Uri,
    },
    /// Through a tunnel.
    Tunnel(Authority),
    /// `GET /v2/` of a client that may mean any of the mirrored registries.
    Ping,
    /// A token for one of the mirrored registries.
    Token,
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
            _ => mirrored(uri, mirrors),
        }
    }
}

/// The `Host` of an upstream request: the authority without user and default port.
pub(crate) fn host_header(target: &Uri) -> HeaderValue {
    let authority = target.authority().map_or("", Authority::as_str);
    let default = target.scheme().map_or(80, default_port);
    let written = authority
        .strip_suffix(&format!(":{default}"))
        .unwrap_or(authority);
    HeaderValue::from_str(written).unwrap_or_else(|_| HeaderValue::from_static(""))
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
    if named.is_some_and(|named| !is_same(&named)) {
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
    assemble(Scheme::HTTPS, registry.clone(), path)
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

/// Origin-form: the proxy is addressed as a registry mirror.
fn mirrored(uri: &Uri, mirrors: &MirrorHosts) -> Result<Target, Refusal> {
    if uri.path() == "*" {
        return Err(malformed("requests for * have no target here"));
    }
    let (namespaces, query) = take_namespaces(uri.query());
    let at = |registry: Registry, path: &str| {
        let path = match &query {
            None => Cow::Borrowed(path),
            Some(query) => Cow::Owned(format!("{path}?{query}")),
        };
        let path = PathAndQuery::try_from(path.as_ref());
        let path = path.map_err(|_| malformed("the path is malformed"))?;
        assemble(registry.scheme, registry.authority, path)
    };
    match namespaces.as_slice() {
        [] => {}
        [ns] => return at(named(ns, mirrors)?, uri.path()).map(Target::Upstream),
        _ => return Err(malformed("more than one ns")),
    }
    // Registries without a list of hosts are mirrored one by one: theirs is the answer.
    if !mirrors.allowed.is_empty() {
        match uri.path() {
            path if api_path::is_base(path) => return Ok(Target::Ping),
            TOKEN_PATH => return Ok(Target::Token),
            _ => {}
        }
    }
    if let Some((host, path)) = host_in_path(uri.path()) {
        match (named(&host_of_component(host), mirrors), &mirrors.default) {
            (Ok(registry), _) => {
                let host = host.to_owned();
                return at(registry, &path).map(|target| Target::PathMirror { host, target });
            }
            (Err(refusal), None) => return Err(refusal),
            // A repository may look like a host.
            (Err(_), Some(_)) => {}
        }
    }
    let default = mirrors.default.clone().ok_or_else(no_default_registry)?;
    at(default, uri.path()).map(Target::Upstream)
}

/// The `HOST[:PORT]` that a component of a path means. Image references allow no colon there:
/// two underscores stand for it. An IPv6 address is written as in UNC paths, with a hyphen for
/// each colon: `fd00--1.ipv6-literal__5000`. As a component begins and ends with a letter or a
/// digit, a zero stands at the open end of a `::`, as in `0--1` or `fd00--0`.
pub(crate) fn host_of_component(component: &str) -> String {
    let (host, port) = match component.split_once("__") {
        Some((host, port)) => (host, format!(":{port}")),
        None => (component, String::new()),
    };
    let address = host.strip_suffix(IPV6_LITERAL);
    let address = address.and_then(|address| address.replace('-', ":").parse::<Ipv6Addr>().ok());
    match address {
        Some(address) => format!("[{address}]{port}"),
        None => format!("{host}{port}"),
    }
}

/// Whether the first component of a path or scope is a host. As in image references, a host
/// has a dot or a port, or is `localhost`.
pub(crate) fn is_host(component: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let has_port = component
        .split_once("__")
        .is_some_and(|(_, port)| is_port(port));
    component.contains(['.', ':']) || has_port || component.eq_ignore_ascii_case("localhost")
}

/// Splits `/v2/HOST/REST`, the form of podman and its kin, into host and `/v2/REST`.
fn host_in_path(path: &str) -> Option<(&str, String)> {
    api_path::take_first_component(path).filter(|(host, _)| is_host(host))
}

fn named(ns: &str, mirrors: &MirrorHosts) -> Result<Registry, Refusal> {
    let authority: Option<Authority> = ns.parse().ok();
    let authority = authority.filter(is_host_and_port);
    let authority = authority.ok_or_else(|| malformed("ns is not HOST[:PORT]"))?;
    mirrors.named(&authority).ok_or_else(|| {
        Refusal::new(
            Mark::HostNotMirrored,
            StatusCode::MISDIRECTED_REQUEST,
            "UNSUPPORTED",
            format!(
                "this flotilla proxy is not a mirror of {authority}: add it to mirror_hosts in the proxy's configuration"
            ),
        )
    })
}

/// Takes each `ns` out of a query; the other parameters stay byte for byte.
fn take_namespaces(query: Option<&str>) -> (Vec<String>, Option<String>) {
    let Some(query) = query else {
        return (Vec::new(), None);
    };
    let (ours, theirs): (Vec<_>, Vec<_>) =
        query.split('&').partition(|pair| pair.starts_with("ns="));
    if ours.is_empty() {
        return (Vec::new(), Some(query.to_owned()));
    }
    let decoded = ours
        .iter()
        .flat_map(|pair| form_urlencoded::parse(pair.as_bytes()));
    let namespaces = decoded.map(|(_, value)| value.into_owned()).collect();
    (namespaces, (!theirs.is_empty()).then(|| theirs.join("&")))
}

fn assemble(scheme: Scheme, authority: Authority, path: PathAndQuery) -> Result<Uri, Refusal> {
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

fn malformed(message: impl Into<String>) -> Refusal {
    Refusal::new(
        Mark::TargetMalformed,
        StatusCode::BAD_REQUEST,
        "UNSUPPORTED",
        message,
    )
}

fn no_default_registry() -> Refusal {
    Refusal::new(
        Mark::RegistryUnnamed,
        StatusCode::NOT_FOUND,
        "NAME_UNKNOWN",
        "this flotilla proxy does not know which registry is meant: start it with --registry URL, or name the registry with ns",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn ns_names_the_registry_and_is_not_forwarded() {
        let found = target("GET", "/v2/a/blobs/x?ns=other.test", None);
        assert_eq!(found, upstream("https://other.test/v2/a/blobs/x"));
        let found = target(
            "GET",
            "/v2//a?n=1&ns=reg.test%3A5000&last=a%2fb",
            Some("http://reg.test:5000"),
        );
        assert_eq!(found, upstream("http://reg.test:5000/v2//a?n=1&last=a%2fb"));
    }

    #[test]
    fn a_listed_host_may_stand_in_the_path() {
        let path_mirror = |uri: &str| {
            Ok(Target::PathMirror {
                host: "other.test".to_owned(),
                target: uri.parse().unwrap(),
            })
        };
        let uri = "/v2/other.test/team/app/tags/list?n=1";
        let found = path_mirror("https://other.test/v2/team/app/tags/list?n=1");
        assert_eq!(target("GET", uri, None), found);
        assert_eq!(target("GET", uri, Some("http://reg.test")), found);
        let uri = "/v2/other.test__443/app/manifests/1";
        assert!(matches!(
            target("GET", uri, None),
            Err(refusal) if refusal.status == StatusCode::MISDIRECTED_REQUEST
                && refusal.message.contains("other.test:443")
        ));
        let refusal = target("GET", "/v2/third.test/app/manifests/1", None).unwrap_err();
        assert_eq!(refusal.status, StatusCode::MISDIRECTED_REQUEST);
    }

    #[test]
    fn hosts_have_a_dot_or_a_port() {
        for host in ["a.test", "a__5000", "a:5000", "localhost"] {
            assert!(is_host(host), "{host}");
        }
        for name in ["library", "my__team", "a__", "a__5000x"] {
            assert!(!is_host(name), "{name}");
        }
    }

    #[test]
    fn an_ipv6_address_may_stand_in_the_path() {
        for (component, host) in [
            ("fd00--1.ipv6-literal__5000", "[fd00::1]:5000"),
            ("fd00--1.ipv6-literal", "[fd00::1]"),
            ("0--1.ipv6-literal__80", "[::1]:80"),
            ("fd00--0.ipv6-literal", "[fd00::]"),
            ("2001-db8-0-0-0-0-0-1.ipv6-literal", "[2001:db8::1]"),
            ("a-b.ipv6-literal__5000", "a-b.ipv6-literal:5000"),
            ("a-b.test__5000", "a-b.test:5000"),
        ] {
            assert_eq!(host_of_component(component), host);
            assert!(is_host(component), "{component}");
        }
        let mirrors = MirrorHosts {
            default: None,
            allowed: vec!["http://[FD00:0::1]:5000".parse().unwrap()],
        };
        let of = |component: &str| {
            let uri = format!("/v2/{component}/app/manifests/1");
            let request = Request::builder().uri(uri).body(()).unwrap();
            Target::of(&request, &Entrance::Listener, &mirrors)
        };
        let component = "fd00--1.ipv6-literal__5000";
        let target = "http://[fd00::1]:5000/v2/app/manifests/1";
        let found = Target::PathMirror {
            host: component.to_owned(),
            target: target.parse().unwrap(),
        };
        assert_eq!(of(component), Ok(found));
        let refusal = of("fd00--2.ipv6-literal__5000").unwrap_err();
        assert_eq!(refusal.status, StatusCode::MISDIRECTED_REQUEST);
    }

    #[test]
    fn a_repository_of_the_default_registry_may_look_like_a_host() {
        assert_eq!(
            target(
                "GET",
                "/v2/third.test/app/manifests/1",
                Some("http://reg.test")
            ),
            upstream("http://reg.test/v2/third.test/app/manifests/1")
        );
    }

    #[test]
    fn without_ns_the_registry_option_decides() {
        assert_eq!(
            target("GET", "/v2/_catalog?", Some("http://reg.test:5000")),
            upstream("http://reg.test:5000/v2/_catalog?")
        );
        let refusal = target("GET", "/v2/_catalog", None).unwrap_err();
        assert_eq!(refusal.status, StatusCode::NOT_FOUND);
        assert!(refusal.message.contains("--registry"));
    }

    #[test]
    fn an_unknown_ns_is_misdirected() {
        let refusal = target(
            "GET",
            "/v2/?ns=169.254.169.254",
            Some("http://reg.test:5000"),
        )
        .unwrap_err();
        assert_eq!(refusal.status, StatusCode::MISDIRECTED_REQUEST);
        assert!(refusal.message.contains("mirror_hosts"));
    }

    #[test]
    fn nothing_behind_the_host_makes_it_a_listed_one() {
        assert_eq!(
            target("GET", "/v2/a/tags/list?ns=b.corp.test", None),
            upstream("https://b.corp.test/v2/a/tags/list")
        );
        for ns in [
            "evil.test:x.corp.test",
            "evil.test:1.corp.test",
            "%5Bfd00::1%5D.corp.test",
            "%5Bfd00::1%5Dx.corp.test",
            "%5Bfd00::1%5D:.corp.test",
            "evil.test:99999",
        ] {
            let refusal = target("GET", &format!("/v2/?ns={ns}"), None).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{ns}");
        }
        for path in [
            "/v2/evil.test__x.corp.test/a/tags/list",
            "/v2/evil.test:x.corp.test/a/b",
        ] {
            assert!(target("GET", path, None).is_err(), "{path}");
        }
        assert!(target("GET", "http://evil.test:x.corp.test/", None).is_err());
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

    #[test]
    fn the_host_header_leaves_the_default_port_out() {
        for (uri, host) in [
            ("http://reg.test:80/", "reg.test"),
            ("http://reg.test:443/", "reg.test:443"),
            ("https://reg.test:443/", "reg.test"),
            ("http://[::1]:5000/", "[::1]:5000"),
        ] {
            assert_eq!(host_header(&uri.parse().unwrap()), host);
        }
    }
}
