//! Registries by name, as operators list them, and settings that differ among them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use url::{Host, Url};

/// What `HOST` without a port means: registries speak HTTPS.
const DEFAULT_PORT: u16 = default_port(false);
/// What it means for a registry without TLS.
const HTTP_PORT: u16 = default_port(true);

/// The port that need not be written: RFC 9110 section 4.2.
pub const fn default_port(is_plain: bool) -> u16 {
    if is_plain { 80 } else { 443 }
}

/// One registry: `HOST[:PORT]`, the port 443 unless given, IPv6 addresses in brackets.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryHost {
    /// Lower case; an IPv6 address without its brackets.
    host: String,
    port: u16,
}

/// A listed registry is not understood.
#[derive(Debug, thiserror::Error)]
#[error("registry {0:?} is not HOST[:PORT]")]
pub struct RegistryHostError(String);

impl RegistryHost {
    /// The registry on `port` of `host`; brackets of an IPv6 address may be there.
    pub fn new(host: &str, port: u16) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Self {
            host: host.to_ascii_lowercase(),
            port,
        }
    }

    /// The registry behind `url`, if it has a host.
    pub fn of_url(url: &Url) -> Option<Self> {
        Some(Self::new(url.host_str()?, url.port_or_known_default()?))
    }

    /// Its name or address; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether this entry of a list means `asked`: the same host and port, and for an entry without a
    /// port also the port of HTTP, where the registry is asked there.
    pub fn means(&self, asked: &Self) -> bool {
        let is_plain = self.port == DEFAULT_PORT && asked.port == HTTP_PORT;
        self.host == asked.host && (self.port == asked.port || is_plain)
    }

    /// Its address, if it is listed by address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for RegistryHost {
    type Err = RegistryHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || RegistryHostError(text.to_owned());
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
                let port = port.parse().ok().filter(|port| is_number && *port != 0);
                (host, port.ok_or_else(malformed)?)
            }
            _ => (text, DEFAULT_PORT),
        };
        // Unlike `Authority`, this refuses user names, wildcards, zones and spaces.
        match Host::parse(host).map_err(|_| malformed())? {
            Host::Domain(name) if name.contains('*') || name.ends_with('.') => Err(malformed()),
            parsed => Ok(Self::new(&parsed.to_string(), port)),
        }
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.parse::<Ipv6Addr>().is_ok() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<String> for RegistryHost {
    type Error = RegistryHostError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RegistryHost> for String {
    fn from(host: RegistryHost) -> Self {
        host.to_string()
    }
}

/// Something that a few registries have of their own and all others share.
#[derive(Clone, Debug)]
pub struct PerRegistry<T> {
    named: Vec<(RegistryHost, T)>,
    others: T,
}

impl<T> PerRegistry<T> {
    /// One value for each of some registries, another for all others.
    pub fn new(named: Vec<(RegistryHost, T)>, others: T) -> Self {
        Self { named, others }
    }

    /// What counts for `registry`.
    pub fn of(&self, registry: &RegistryHost) -> &T {
        let own = self.named.iter().find(|(name, _)| name == registry);
        own.map_or(&self.others, |(_, own)| own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_and_the_case_may_be_left_out() {
        for (written, meant) in [
            ("Harbor.Example.com", "harbor.example.com:443"),
            ("harbor.example.com:8443", "harbor.example.com:8443"),
            ("10.0.0.1:5000", "10.0.0.1:5000"),
            ("[FD00::1]", "[fd00::1]:443"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            let registry: RegistryHost = written.parse().unwrap();
            assert_eq!(registry.to_string(), meant);
            assert_eq!(registry, meant.parse().unwrap());
        }
    }

    #[test]
    fn an_entry_without_a_port_means_the_port_of_the_scheme_that_is_used() {
        let means = |listed: &str, asked: &str| {
            let asked = Url::parse(asked).unwrap();
            let listed: RegistryHost = listed.parse().unwrap();
            listed.means(&RegistryHost::of_url(&asked).unwrap())
        };
        assert!(means("harbor.test", "http://harbor.test/v2/"));
        assert!(means("harbor.test", "https://harbor.test/v2/"));
        assert!(means("harbor.test:80", "http://harbor.test/v2/"));
        assert!(!means("harbor.test:80", "https://harbor.test/v2/"));
        assert!(!means("harbor.test", "http://harbor.test:5000/v2/"));
        assert!(!means("harbor.test", "http://other.test/v2/"));
    }

    #[test]
    fn malformed_names_are_refused() {
        for text in [
            "",
            ":5000",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "u@a",
            "a/b",
            "*.a",
            "https://a",
            "fd00::1",
            "[fe80::1%eth0]",
            "a b",
        ] {
            assert!(text.parse::<RegistryHost>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_registry_has_its_own_or_what_the_others_share() {
        let per = PerRegistry::new(vec![("a:1".parse().unwrap(), 1)], 0);
        assert_eq!(per.of(&RegistryHost::new("a", 1)), &1);
        assert_eq!(per.of(&RegistryHost::new("a", 2)), &0);
        let url = Url::parse("https://[::1]/v2/").unwrap();
        assert_eq!(RegistryHost::of_url(&url), Some("[::1]".parse().unwrap()));
    }
}
