//! The HTTP clients towards sources.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use url::{Host, Url};

use super::error::SourceError;
use crate::egress::Egress;
use crate::link_local as source_address;

/// A source that does not accept a connection by then is unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A source that sends nothing for so long has broken the connection. Gateways hold the rest of a
/// layer until they have scanned it, and engines wait as long.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// Load balancers forget connections that are idle for longer, and those before them at a failover.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Two clients, as a kept connection may have been forgotten by what is between.
#[derive(Debug)]
pub(super) struct HttpClients {
    /// Keeps connections for the next question.
    pub(super) kept: Client,
    /// A connection of its own for each content, as engines have it.
    pub(super) fresh: Client,
}

impl HttpClients {
    pub(super) fn new(tls: rustls::ClientConfig, egress: &Egress) -> anyhow::Result<Self> {
        Ok(Self {
            kept: client(tls.clone(), egress, usize::MAX)?,
            fresh: client(tls, egress, 0)?,
        })
    }
}

fn client(tls: rustls::ClientConfig, egress: &Egress, most_idle: usize) -> anyhow::Result<Client> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(most_idle)
        .redirect(reqwest::redirect::Policy::none())
        .http1_only()
        // Odd fields that reverse proxies add and engines take: unfolded, or left out.
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .no_proxy()
        .dns_resolver(Arc::new(source_address::Resolver))
        .user_agent(concat!("flotilla/", env!("CARGO_PKG_VERSION")));
    for proxy in egress.proxies()? {
        builder = builder.proxy(proxy);
    }
    Ok(builder.build()?)
}

/// A cluster member names the URL. What clouds tell this host alone, at link-local addresses,
/// is not for him; names are looked at when they are [resolved](source_address::Resolver).
pub(super) fn check_url(url: &Url) -> Result<(), SourceError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(SourceError::Url("neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SourceError::Url("credentials belong into a header"));
    }
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(Host::Domain(_)) => None,
        None => return Err(SourceError::Url("no host")),
    };
    if literal.is_some_and(source_address::is_link_local) {
        return Err(SourceError::Url("link-local address"));
    }
    Ok(())
}

/// The innermost cause; the outer ones repeat the URL, which may hold a signature.
pub(super) fn unreachable(error: &reqwest::Error) -> SourceError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    SourceError::Unreachable(cause.to_string())
}
