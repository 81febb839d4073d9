//! Which addresses a URL of a caller's choice may lead to.
//!
//! Clouds hand a machine its own credentials at a link-local address (RFC 3927, RFC 4291
//! section 2.5.6); they are not for every caller that can name a URL. Loopback and private addresses are
//! where registries are.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Whether `ip` is link-local, also as an IPv6 address that embeds it (RFC 4291 section 2.5.5).
pub fn is_link_local(ip: IpAddr) -> bool {
    let v4 = |ip: Ipv4Addr| ip.is_link_local();
    match ip {
        IpAddr::V4(ip) => v4(ip),
        // `to_ipv4` also knows the deprecated form without `ffff`.
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4().is_some_and(v4),
    }
}

/// The system's resolver, less link-local addresses.
#[derive(Debug)]
pub struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|found| !is_link_local(found.ip())).collect();
            if allowed.is_empty() {
                let reason = format!("{} has no address but link-local ones", name.as_str());
                return Err(io::Error::other(reason).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_are_known_in_every_form() {
        for ip in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "fe80::1",
        ] {
            assert!(is_link_local(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "192.0.2.1"] {
            assert!(!is_link_local(ip.parse().unwrap()), "{ip}");
        }
    }
}
