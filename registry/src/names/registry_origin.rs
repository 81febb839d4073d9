//! Registries with the scheme that they are reached by.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::names::docker_hub::api_host;
use crate::names::host::{RegistryHost, default_port};

/// Scheme, host and port of a registry: `HOST[:PORT]` with HTTPS, or `http://HOST[:PORT]`.
/// `docker.io` is Docker Hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryOrigin {
    host: RegistryHost,
    is_plain: bool,
}

/// A listed registry is not understood.
#[derive(Debug, thiserror::Error)]
#[error("registry {0:?} is not HOST[:PORT] or http://HOST[:PORT]")]
pub struct RegistryOriginError(String);

impl RegistryOrigin {
    /// The registry behind `url`.
    pub fn of_url(url: &Url) -> Option<Self> {
        Some(Self {
            host: RegistryHost::of_url(url)?,
            is_plain: url.scheme() == "http",
        })
    }

    /// Its name.
    pub fn host(&self) -> &RegistryHost {
        &self.host
    }

    /// Whether it is reached without TLS.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Whether an image's `host` and `port` mean it.
    pub fn is_called(&self, host: &str, port: Option<u16>) -> bool {
        let host = api_host(host);
        let port = port.unwrap_or(self.default_port());
        self.host == RegistryHost::new(host, port)
    }

    /// `path` there.
    pub fn url(&self, path: &str) -> Option<Url> {
        format!("{}{path}", self.base()).parse().ok()
    }

    /// `http[s]://HOST:PORT`, as URLs begin.
    pub fn base(&self) -> String {
        let scheme = if self.is_plain { "http" } else { "https" };
        format!("{scheme}://{}", self.host)
    }

    /// `HOST[:PORT]` without the scheme's own port, as people name it.
    pub fn short_host(&self) -> String {
        let written = self.host.to_string();
        if self.host.port() == self.default_port() {
            let name = written.rsplit_once(':').map(|(name, _)| name.to_owned());
            name.unwrap_or(written)
        } else {
            written
        }
    }

    fn default_port(&self) -> u16 {
        default_port(self.is_plain)
    }
}

impl FromStr for RegistryOrigin {
    type Err = RegistryOriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || RegistryOriginError(text.to_owned());
        let (is_plain, name) = match text.strip_prefix("http://") {
            Some(name) => (true, name),
            None => (false, text.strip_prefix("https://").unwrap_or(text)),
        };
        let name = name.strip_suffix('/').unwrap_or(name);
        let host: RegistryHost = name.parse().map_err(|_| malformed())?;
        // `HOST` alone has the port of HTTPS.
        let names_port = host.to_string().eq_ignore_ascii_case(name);
        let port = if is_plain && !names_port {
            default_port(true)
        } else {
            host.port()
        };
        Ok(Self {
            host: RegistryHost::new(api_host(host.host()), port),
            is_plain,
        })
    }
}

impl fmt::Display for RegistryOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_plain {
            f.write_str("http://")?;
        }
        self.host.fmt(f)
    }
}

impl TryFrom<String> for RegistryOrigin {
    type Error = RegistryOriginError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RegistryOrigin> for String {
    fn from(registry: RegistryOrigin) -> Self {
        registry.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_reached_as_it_is_listed() {
        for (written, meant) in [
            ("harbor.test", "https://harbor.test/v2/"),
            ("https://harbor.test/", "https://harbor.test/v2/"),
            ("harbor.test:8443", "https://harbor.test:8443/v2/"),
            ("http://harbor.test", "http://harbor.test/v2/"),
            ("http://harbor.test:443", "http://harbor.test:443/v2/"),
            ("http://[::1]:5000", "http://[::1]:5000/v2/"),
            ("docker.io", "https://registry-1.docker.io/v2/"),
        ] {
            let registry: RegistryOrigin = written.parse().unwrap();
            assert_eq!(registry.url("/v2/").unwrap().as_str(), meant);
            assert_eq!(registry, registry.to_string().parse().unwrap());
            let url = registry.url("/v2/").unwrap();
            assert_eq!(RegistryOrigin::of_url(&url), Some(registry));
        }
        for text in ["", "ftp://a", "a/b", "http://u@a", "http://"] {
            assert!(text.parse::<RegistryOrigin>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_image_s_host_without_a_port_means_the_scheme_s_port() {
        let plain: RegistryOrigin = "http://reg.test".parse().unwrap();
        assert!(plain.is_called("reg.test", None));
        assert!(!plain.is_called("reg.test", Some(443)));
        let hub: RegistryOrigin = "docker.io".parse().unwrap();
        assert!(hub.is_called("docker.io", None) && hub.is_called("index.docker.io", None));
    }
}
