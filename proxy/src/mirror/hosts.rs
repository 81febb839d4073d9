//! Which registries mirror requests may name.
//!
//! `ns` is written by the client: without a list it would let any local program send requests
//! to any host in this node's name.

use flotilla_registry::names::docker_hub;
use flotilla_registry::names::host;
use flotilla_registry::names::host_pattern::{HostPattern, in_one_form};
use http::Uri;
use http::uri::{Authority, Scheme};

/// The base of a registry: scheme and authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registry {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
}

/// The registries that this proxy is a mirror of.
#[derive(Clone, Debug, Default)]
pub(crate) struct MirrorHosts {
    pub(crate) default: Option<Registry>,
    pub(crate) allowed: Vec<HostPattern>,
}

impl MirrorHosts {
    /// The registry that is meant when nothing names one: the only one there is. Not the
    /// default of several, as the credentials of the request may be for another.
    pub(crate) fn only(&self) -> Option<Registry> {
        match (&self.default, self.allowed.as_slice()) {
            (Some(default), allowed) => {
                let is_default = |pattern: &HostPattern| {
                    pattern.only().is_some_and(|host| is_same(host, default))
                };
                allowed.iter().all(is_default).then(|| default.clone())
            }
            (None, [only]) => self.named(&only.only()?.parse().ok()?),
            (None, _) => None,
        }
    }

    /// The registry that `ns` names, if requests may go there.
    pub(crate) fn named(&self, ns: &Authority) -> Option<Registry> {
        let mut name = in_one_form(ns);
        if name == docker_hub::INDEX_HOST {
            docker_hub::NAME.clone_into(&mut name);
        }
        if let Some(default) = &self.default
            && is_same(&name, default)
        {
            return Some(default.clone());
        }
        let pattern = self.allowed.iter().find(|pattern| pattern.matches(&name))?;
        let authority = if name == docker_hub::NAME {
            Authority::from_static(docker_hub::API_HOST)
        } else {
            ns.clone()
        };
        Some(Registry {
            scheme: pattern.scheme().clone(),
            authority,
        })
    }
}

/// Whether a name means the default registry; its default port may be written or left out.
fn is_same(name: &str, registry: &Registry) -> bool {
    let port = default_port(&registry.scheme);
    let with_port = |name: &str| {
        let has_port = name
            .parse::<Authority>()
            .is_ok_and(|authority| authority.port().is_some());
        if has_port {
            name.to_owned()
        } else {
            format!("{name}:{port}")
        }
    };
    with_port(name) == with_port(&registry.authority.as_str().to_ascii_lowercase())
}

/// The port that need not be written: RFC 9110 section 4.2.
pub(crate) fn default_port(scheme: &Scheme) -> u16 {
    host::default_port(*scheme != Scheme::HTTPS)
}

impl Registry {
    /// The registry that `--registry` names.
    pub(crate) fn from_url(url: &url::Url) -> Option<Self> {
        let uri: Uri = url.as_str().parse().ok()?;
        let parts = uri.into_parts();
        let is_bare = parts.path_and_query.is_none_or(|path| path.as_str() == "/");
        let scheme = parts
            .scheme
            .filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS)?;
        let authority = parts
            .authority
            .filter(|authority| !authority.as_str().contains('@'))?;
        is_bare.then_some(Self { scheme, authority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(default: Option<&str>, allowed: &[&str]) -> MirrorHosts {
        MirrorHosts {
            default: default.map(|url| Registry::from_url(&url.parse().unwrap()).unwrap()),
            allowed: allowed
                .iter()
                .map(|pattern| pattern.parse().unwrap())
                .collect(),
        }
    }

    fn named(hosts: &MirrorHosts, ns: &str) -> Option<String> {
        let registry = hosts.named(&ns.parse().unwrap())?;
        Some(format!("{}://{}", registry.scheme, registry.authority))
    }

    #[test]
    fn only_listed_hosts_may_be_named() {
        let hosts = hosts(
            None,
            &[
                "harbor.example.com",
                "http://plain.test:5000",
                "*.corp.test",
            ],
        );
        assert_eq!(
            named(&hosts, "harbor.example.com").as_deref(),
            Some("https://harbor.example.com")
        );
        assert_eq!(
            named(&hosts, "Plain.test:5000").as_deref(),
            Some("http://Plain.test:5000")
        );
        assert_eq!(
            named(&hosts, "a.corp.test").as_deref(),
            Some("https://a.corp.test")
        );
        for refused in [
            "corp.test",
            "evilcorp.test",
            "plain.test",
            "169.254.169.254",
            "harbor.example.com:81",
        ] {
            assert_eq!(named(&hosts, refused), None, "{refused}");
        }
    }

    #[test]
    fn the_default_registry_may_always_be_named_and_keeps_its_scheme() {
        let hosts = hosts(Some("http://reg.test:5000"), &[]);
        assert_eq!(
            named(&hosts, "reg.test:5000").as_deref(),
            Some("http://reg.test:5000")
        );
        assert_eq!(named(&hosts, "reg.test"), None);
    }

    #[test]
    fn an_ipv6_address_may_be_written_in_any_form() {
        let hosts = hosts(None, &["http://[FD00:0:0::0:1]:5000"]);
        for ns in ["[fd00::1]:5000", "[fd00:0::1]:5000", "[FD00::0001]:5000"] {
            assert_eq!(named(&hosts, ns), Some(format!("http://{ns}")));
        }
        assert_eq!(named(&hosts, "[fd00::1]"), None);
    }

    #[test]
    fn the_default_port_need_not_be_written() {
        let hosts = hosts(Some("https://reg.test"), &[]);
        assert_eq!(
            named(&hosts, "reg.test:443").as_deref(),
            Some("https://reg.test")
        );
    }

    #[test]
    fn a_registry_is_the_only_one_if_there_is_no_other() {
        let only = |default, allowed: &[&str]| {
            let registry = hosts(default, allowed).only()?;
            Some(registry.authority.to_string())
        };
        let default = Some("https://reg.test");
        assert_eq!(only(default, &[]).as_deref(), Some("reg.test"));
        assert_eq!(
            only(default, &["reg.test:443"]).as_deref(),
            Some("reg.test")
        );
        assert_eq!(only(None, &["a.test"]).as_deref(), Some("a.test"));
        assert_eq!(only(default, &["a.test"]), None);
        assert_eq!(only(default, &["*.reg.test"]), None);
        assert_eq!(only(None, &["a.test", "b.test"]), None);
        assert_eq!(only(None, &["*.a.test"]), None);
    }

    #[test]
    fn docker_hub_is_served_by_another_host() {
        let hosts = hosts(None, &["docker.io"]);
        assert_eq!(
            named(&hosts, "docker.io").as_deref(),
            Some("https://registry-1.docker.io")
        );
    }
}
