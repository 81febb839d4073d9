//! Which registry a request to the mirror means: a host in its path, the header of Dragonfly's
//! clients, containerd's `ns`, or the only registry there is.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use flotilla_registry::names::api_path;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, StatusCode, Uri};
use url::form_urlencoded;

use crate::authority::{assemble, is_host_and_port, malformed};
use crate::marks::Mark;
use crate::mirror::hosts::{MirrorHosts, Registry};
use crate::oci_error::Refusal;

/// Where clients get tokens for the mirrored registries.
pub(crate) const TOKEN_PATH: &str = "/flotilla/v1/token";

/// How clients of Dragonfly name the registry: a URL, or a host.
const DRAGONFLY_REGISTRY: HeaderName = HeaderName::from_static("x-dragonfly-registry");

/// Ends an IPv6 address in a path.
const IPV6_LITERAL: &str = ".ipv6-literal";

/// What a request to the mirror is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mirrored {
    /// For a registry.
    Registry {
        /// What is meant there.
        target: Uri,
        /// How the client said so.
        named: Named,
    },
    /// `GET /v2/` of a client that may mean any of the mirrored registries.
    Ping,
    /// A token for one of the mirrored registries.
    Token,
}

/// How a client names the registry that it means. What it is given back has to lead there again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// As the first component of a path, `/v2/HOST[:PORT]/REPOSITORY/…`; as the client wrote it.
    InPath(String),
    /// Beside the path.
    Beside(Authority),
    /// Not at all: it is the only one, or the one of `--registry`.
    Silently,
}

/// What a request in origin-form asks for.
///
/// # Errors
/// No mirrored registry is meant.
pub(crate) fn mirrored(
    uri: &Uri,
    headers: &HeaderMap,
    mirrors: &MirrorHosts,
) -> Result<Mirrored, Refusal> {
    if uri.path() == "*" {
        return Err(malformed("requests for * have no target here"));
    }
    let (namespaces, query) = take_namespaces(uri.query());
    let at = |registry: Registry, path: &str, query: Option<String>, named: Named| {
        let path = match &query {
            None => Cow::Borrowed(path),
            Some(query) => Cow::Owned(format!("{path}?{query}")),
        };
        let path = PathAndQuery::try_from(path.as_ref());
        let path = path.map_err(|_| malformed("the path is malformed"))?;
        let target = assemble(registry.scheme, registry.authority, path)?;
        Ok(Mirrored::Registry { target, named })
    };
    let in_path = host_in_path(uri.path());
    // Before `ns`: with `override_path` containerd asks for the path that its configuration has, and
    // says in `ns` what the image is called elsewhere.
    if let Some((host, path)) = &in_path
        && let Ok(registry) = named(&host_of_component(host), mirrors)
    {
        let query = query.as_deref().map(|query| without_host(query, host));
        return at(registry, path, query, Named::InPath((*host).to_owned()));
    }
    if let Some((registry, authority)) = named_by_header(headers, mirrors, namespaces.is_empty())? {
        return at(registry, uri.path(), query, Named::Beside(authority));
    }
    match namespaces.as_slice() {
        [] => {}
        [ns] => {
            let registry = named(ns, mirrors)?;
            let authority = ns.parse().map_err(|_| malformed("ns is not HOST[:PORT]"))?;
            return at(registry, uri.path(), query, Named::Beside(authority));
        }
        _ => return Err(malformed("more than one ns")),
    }
    // Registries without a list of hosts are mirrored one by one: theirs is the answer.
    if !mirrors.allowed.is_empty() {
        match uri.path() {
            path if api_path::is_base(path) => return Ok(Mirrored::Ping),
            TOKEN_PATH => return Ok(Mirrored::Token),
            _ => {}
        }
    }
    match (mirrors.default.clone(), in_path) {
        // A repository may look like a host.
        (Some(default), _) => at(default, uri.path(), query, Named::Silently),
        (None, Some((host, _))) => Err(not_mirrored(&host_of_component(host))),
        (None, None) => {
            let only = mirrors.only().ok_or_else(no_default_registry)?;
            at(only, uri.path(), query, Named::Silently)
        }
    }
}

/// The registry of Dragonfly's header. One that is not listed is an error only where nothing else
/// names a registry: such clients send `ns` as well.
fn named_by_header(
    headers: &HeaderMap,
    mirrors: &MirrorHosts,
    is_alone: bool,
) -> Result<Option<(Registry, Authority)>, Refusal> {
    let Some(value) = headers.get(DRAGONFLY_REGISTRY) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = bare.split_once('/').map_or(bare, |(host, _)| host);
    match (named(host, mirrors), host.parse()) {
        (Ok(registry), Ok(authority)) => Ok(Some((registry, authority))),
        (Err(refusal), _) if is_alone => Err(refusal),
        _ => Ok(None),
    }
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

/// A registry that a client names, if requests may go there.
fn named(name: &str, mirrors: &MirrorHosts) -> Result<Registry, Refusal> {
    let authority: Option<Authority> = name.parse().ok();
    let authority = authority.filter(is_host_and_port);
    let authority = authority.ok_or_else(|| malformed("ns is not HOST[:PORT]"))?;
    let registry = mirrors.named(&authority);
    registry.ok_or_else(|| not_mirrored(authority.as_str()))
}

/// Its credentials must not go to another registry instead.
pub(crate) fn not_mirrored(host: &str) -> Refusal {
    let message = format!(
        "this flotilla proxy is not a mirror of {host}: start it with --mirror-host {host} (mirror_hosts in its configuration)"
    );
    Refusal::new(
        Mark::HostNotMirrored,
        StatusCode::MISDIRECTED_REQUEST,
        "UNSUPPORTED",
        message,
    )
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

/// The query with the repository that a blob is mounted from, `from=HOST/REPOSITORY`, as the registry
/// knows it.
fn without_host(query: &str, host: &str) -> String {
    let pair = |pair: &str| {
        let from = pair.strip_prefix("from=")?;
        let rest = from.strip_prefix(host)?;
        let encoded = rest
            .get(..3)
            .filter(|rest| rest.eq_ignore_ascii_case("%2f"));
        let rest = rest
            .strip_prefix('/')
            .or_else(|| rest.get(encoded?.len()..))?;
        Some(format!("from={rest}"))
    };
    let pairs = query
        .split('&')
        .map(|text| pair(text).unwrap_or_else(|| text.to_owned()));
    pairs.collect::<Vec<_>>().join("&")
}

fn no_default_registry() -> Refusal {
    Refusal::new(
        Mark::RegistryUnnamed,
        StatusCode::NOT_FOUND,
        "NAME_UNKNOWN",
        "this flotilla proxy does not know which registry is meant: start it with --registry URL or one --mirror-host, or name the registry with ns",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a request is understood where these are mirrored, and `--registry` is given or not.
    fn at(
        uri: &str,
        registry: Option<&str>,
        allowed: &[&str],
        header: Option<&str>,
    ) -> Result<Mirrored, Refusal> {
        let default = registry.map(|url| Registry::from_url(&url.parse().unwrap()).unwrap());
        let allowed = allowed.iter().map(|pattern| pattern.parse().unwrap());
        let mirrors = MirrorHosts {
            default,
            allowed: allowed.collect(),
        };
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(DRAGONFLY_REGISTRY, header.parse().unwrap());
        }
        mirrored(&uri.parse().unwrap(), &headers, &mirrors)
    }

    fn meant(uri: &str, registry: Option<&str>) -> Result<Mirrored, Refusal> {
        at(uri, registry, &["other.test", "*.corp.test"], None)
    }

    fn registry(target: &str, named: Named) -> Result<Mirrored, Refusal> {
        let target = target.parse().unwrap();
        Ok(Mirrored::Registry { target, named })
    }

    fn beside(target: &str, host: &str) -> Result<Mirrored, Refusal> {
        registry(target, Named::Beside(host.parse().unwrap()))
    }

    fn silently(target: &str) -> Result<Mirrored, Refusal> {
        registry(target, Named::Silently)
    }

    fn in_path(target: &str, host: &str) -> Result<Mirrored, Refusal> {
        registry(target, Named::InPath(host.to_owned()))
    }

    #[test]
    fn ns_names_the_registry_and_is_not_forwarded() {
        let found = meant("/v2/a/blobs/x?ns=other.test", None);
        assert_eq!(
            found,
            beside("https://other.test/v2/a/blobs/x", "other.test")
        );
        let uri = "/v2//a?n=1&ns=reg.test%3A5000&last=a%2fb";
        let target = "http://reg.test:5000/v2//a?n=1&last=a%2fb";
        assert_eq!(
            meant(uri, Some("http://reg.test:5000")),
            beside(target, "reg.test:5000")
        );
    }

    #[test]
    fn a_listed_host_may_stand_in_the_path() {
        let uri = "/v2/other.test/team/app/tags/list?n=1";
        let target = "https://other.test/v2/team/app/tags/list?n=1";
        let found = in_path(target, "other.test");
        assert_eq!(meant(uri, None), found);
        assert_eq!(meant(uri, Some("http://reg.test")), found);
        // The scheme's port may be written.
        let found = in_path(
            "https://other.test:443/v2/app/manifests/1",
            "other.test__443",
        );
        assert_eq!(meant("/v2/other.test__443/app/manifests/1", None), found);
        for component in ["other.test__444", "third.test"] {
            let refusal = meant(&format!("/v2/{component}/app/manifests/1"), None).unwrap_err();
            assert_eq!(refusal.status, StatusCode::MISDIRECTED_REQUEST);
            assert!(refusal.message.contains(&host_of_component(component)));
        }
    }

    #[test]
    fn a_listed_host_in_the_path_counts_more_than_ns() {
        let uri = "/v2/other.test/hub/library/app/manifests/1?ns=docker.io&n=1";
        let target = "https://other.test/v2/hub/library/app/manifests/1?n=1";
        let found = in_path(target, "other.test");
        assert_eq!(meant(uri, None), found);
        assert_eq!(at(uri, None, &["other.test", "docker.io"], None), found);
        // A repository may look like a host that is not listed.
        let uri = "/v2/third.test/app/manifests/1?ns=other.test";
        let target = "https://other.test/v2/third.test/app/manifests/1";
        assert_eq!(meant(uri, None), beside(target, "other.test"));
    }

    #[test]
    fn a_blob_is_mounted_from_the_repository_as_the_registry_knows_it() {
        for (from, expected) in [
            ("other.test/team/base", "team/base"),
            ("other.test%2Fteam%2Fbase", "team%2Fbase"),
            ("other.testing/base", "other.testing/base"),
            ("team/base", "team/base"),
        ] {
            let uri = format!("/v2/other.test/app/blobs/uploads/?mount=sha256:ab&from={from}");
            let target =
                format!("https://other.test/v2/app/blobs/uploads/?mount=sha256:ab&from={expected}");
            assert_eq!(meant(&uri, None), in_path(&target, "other.test"));
        }
    }

    #[test]
    fn a_lone_mirror_host_is_meant_where_nothing_names_another() {
        let lone = |uri: &str| at(uri, None, &["http://one.test:5000"], None);
        let target = "http://one.test:5000/v2/a/blobs/x";
        assert_eq!(lone("/v2/a/blobs/x"), silently(target));
        assert_eq!(
            lone("/v2/_catalog"),
            silently("http://one.test:5000/v2/_catalog")
        );
        assert_eq!(lone("/v2/"), Ok(Mirrored::Ping));
        let refusal = lone("/v2/two.test/a/manifests/1").unwrap_err();
        assert_eq!(refusal.status, StatusCode::MISDIRECTED_REQUEST);
    }

    #[test]
    fn dragonfly_s_header_names_a_listed_registry() {
        let of = |uri: &str, header: &str| at(uri, None, &["a.test", "docker.io"], Some(header));
        for header in [
            "https://a.test",
            "a.test",
            "https://a.test/",
            "http://a.test:443",
        ] {
            let found = of("/v2/x/blobs/y", header);
            assert!(
                matches!(&found, Ok(Mirrored::Registry { target, named: Named::Beside(_) })
                    if target.host() == Some("a.test") && target.path() == "/v2/x/blobs/y"),
                "{header}: {found:?}"
            );
        }
        let hub = "https://registry-1.docker.io/v2/x/blobs/y";
        let found = of("/v2/x/blobs/y", "https://index.docker.io");
        assert_eq!(found, beside(hub, "index.docker.io"));
        // It counts more than `ns`, as with Dragonfly, but only a listed one does.
        let found = of("/v2/x/blobs/y?ns=docker.io", "https://a.test");
        assert_eq!(found, beside("https://a.test/v2/x/blobs/y", "a.test"));
        let found = of("/v2/x/blobs/y?ns=docker.io", "https://evil.test");
        assert_eq!(found, beside(hub, "docker.io"));
        let refusal = of("/v2/x/blobs/y", "https://evil.test").unwrap_err();
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
        let of = |component: &str| {
            let uri = format!("/v2/{component}/app/manifests/1");
            at(&uri, None, &["http://[FD00:0::1]:5000"], None)
        };
        let component = "fd00--1.ipv6-literal__5000";
        let target = "http://[fd00::1]:5000/v2/app/manifests/1";
        assert_eq!(of(component), in_path(target, component));
        let refusal = of("fd00--2.ipv6-literal__5000").unwrap_err();
        assert_eq!(refusal.status, StatusCode::MISDIRECTED_REQUEST);
    }

    #[test]
    fn a_repository_of_the_default_registry_may_look_like_a_host() {
        assert_eq!(
            meant("/v2/third.test/app/manifests/1", Some("http://reg.test")),
            silently("http://reg.test/v2/third.test/app/manifests/1")
        );
    }

    #[test]
    fn without_ns_the_registry_option_decides() {
        assert_eq!(
            meant("/v2/_catalog?", Some("http://reg.test:5000")),
            silently("http://reg.test:5000/v2/_catalog?")
        );
        let refusal = meant("/v2/_catalog", None).unwrap_err();
        assert_eq!(refusal.status, StatusCode::NOT_FOUND);
        assert!(refusal.message.contains("--registry"));
    }

    #[test]
    fn an_unknown_ns_is_misdirected() {
        let uri = "/v2/?ns=169.254.169.254";
        let refusal = meant(uri, Some("http://reg.test:5000")).unwrap_err();
        assert_eq!(refusal.status, StatusCode::MISDIRECTED_REQUEST);
        assert!(refusal.message.contains("mirror_hosts"));
    }

    #[test]
    fn nothing_behind_the_host_makes_it_a_listed_one() {
        assert_eq!(
            meant("/v2/a/tags/list?ns=b.corp.test", None),
            beside("https://b.corp.test/v2/a/tags/list", "b.corp.test")
        );
        for ns in [
            "evil.test:x.corp.test",
            "evil.test:1.corp.test",
            "%5Bfd00::1%5D.corp.test",
            "%5Bfd00::1%5Dx.corp.test",
            "%5Bfd00::1%5D:.corp.test",
            "evil.test:99999",
        ] {
            let refusal = meant(&format!("/v2/?ns={ns}"), None).unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{ns}");
        }
        for path in [
            "/v2/evil.test__x.corp.test/a/tags/list",
            "/v2/evil.test:x.corp.test/a/b",
        ] {
            assert!(meant(path, None).is_err(), "{path}");
        }
    }
}
