//! Registries as operators list them for mirrors: by name, or all of a domain.

use std::net::Ipv6Addr;
use std::str::FromStr;

use http::uri::{Authority, Scheme};

use crate::names::host::{RegistryHost, default_port};

/// One entry of the list: `registry.example.com[:port]` or `*.example.com`, optionally with
/// `http://` before it for a registry without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    scheme: Scheme,
    /// Lower case; begins with a dot if the entry had a wildcard.
    host: String,
}

/// An entry of the list of mirror hosts is not understood.
#[derive(Debug, thiserror::Error)]
#[error("mirror host {0:?} is not [http://]HOST[:PORT] or [http://]*.DOMAIN")]
pub struct HostPatternError(String);

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || HostPatternError(text.to_owned());
        let (scheme, host) = match text.split_once("://") {
            None => (Scheme::HTTPS, text),
            Some(("https", host)) => (Scheme::HTTPS, host),
            Some(("http", host)) => (Scheme::HTTP, host),
            Some(_) => return Err(malformed()),
        };
        let name = host.strip_prefix("*.").unwrap_or(host);
        let authority: Authority = name.parse().map_err(|_| malformed())?;
        // The form of every listed registry; the wildcard stands before it and nowhere else.
        name.parse::<RegistryHost>().map_err(|_| malformed())?;
        let host = if name == host {
            in_one_form(&authority)
        } else {
            host.trim_start_matches('*').to_ascii_lowercase()
        };
        Ok(Self { scheme, host })
    }
}

impl HostPattern {
    /// How its registries are reached.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The registry, if the entry stands for one.
    pub fn only(&self) -> Option<&str> {
        (!self.host.starts_with('.')).then_some(self.host.as_str())
    }

    /// Whether it stands for the registry of this name, which [`in_one_form`] wrote. The scheme's own port
    /// may be written or left out on either side.
    pub fn matches(&self, name: &str) -> bool {
        let port = format!(":{}", default_port(self.scheme != Scheme::HTTPS));
        let bare = |name: &str| name.strip_suffix(&port).unwrap_or(name).to_owned();
        let (name, host) = (bare(name), bare(&self.host));
        match self.only() {
            Some(_) => name == host,
            None => name.ends_with(&host),
        }
    }
}

/// A registry's name in lower case, an IPv6 address as short as it can be.
pub fn in_one_form(authority: &Authority) -> String {
    let host = authority.host();
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let rest = authority.as_str().strip_prefix(host);
    match (bare.and_then(|bare| bare.parse::<Ipv6Addr>().ok()), rest) {
        (Some(address), Some(rest)) => format!("[{address}]{rest}"),
        _ => authority.as_str().to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in [
            "", "*", "*.", "ftp://a", "a/b", "u@a", "a.*.b", "a:0", "a:99999", "a:b:c", "a b",
        ] {
            assert!(pattern.parse::<HostPattern>().is_err(), "{pattern}");
        }
    }
}
