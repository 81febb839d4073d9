//! The HTTP client towards registries and the other servers that engines ask for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use flotilla_registry::names::host::{PerRegistry, RegistryHost};
use flotilla_registry::tls::RegistryTls;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::body::{self, ProxyBody};
use crate::front::http_limits::{MAX_HEAD_BYTES, MAX_HEADERS};
use crate::front::link_local;
use crate::front::link_local::{GuardedResolver, LinkLocal};
use crate::marks::{Mark, set_mark};
use crate::mirror::hosts::default_port;
use crate::oci_error::Refusal;
use crate::stats::ProxyStats;

/// Half of what engines give a mirror. To wait as long as dockerd waits for the registry itself
/// would be too long to find out that it is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Below the keep-alive of the servers in use (nginx 75 s, Go unlimited), so that they do not close a
/// connection just as it is used again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
const MAX_IDLE: usize = 16;

/// Sends requests, to each registry as its TLS settings say.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    clients: Arc<PerRegistry<Clients>>,
    stats: Arc<ProxyStats>,
}

/// Two clients, as not every request may be sent twice.
#[derive(Debug)]
struct Clients {
    /// Keeps connections for the next request.
    kept: Client<HttpsConnector<HttpConnector<GuardedResolver>>, ProxyBody>,
    /// A connection of its own for each request, which cannot have been closed meanwhile.
    fresh: Client<HttpsConnector<HttpConnector<GuardedResolver>>, ProxyBody>,
}

/// A request got no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error(transparent)]
    LinkLocal(#[from] LinkLocal),
    #[error("{host} cannot be reached: {reason}")]
    Unreachable { host: String, reason: String },
    #[error("{host} does not answer in time")]
    TimedOut { host: String },
    #[error("{host} broke off before it answered: {reason}")]
    BrokeOff { host: String, reason: String },
}

impl From<UpstreamError> for Refusal {
    fn from(error: UpstreamError) -> Self {
        let (mark, status) = match error {
            UpstreamError::LinkLocal(_) => (Mark::LinkLocalRefused, StatusCode::FORBIDDEN),
            UpstreamError::TimedOut { .. } => (Mark::ServerTimedOut, StatusCode::GATEWAY_TIMEOUT),
            UpstreamError::Unreachable { .. } => (Mark::ServerUnreachable, StatusCode::BAD_GATEWAY),
            UpstreamError::BrokeOff { .. } => (Mark::ServerBrokeOff, StatusCode::BAD_GATEWAY),
        };
        let code = match mark {
            Mark::LinkLocalRefused => "DENIED",
            _ => "UNAVAILABLE",
        };
        Self::new(mark, status, code, error.to_string())
    }
}

impl Clients {
    fn new(tls: rustls::ClientConfig) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(GuardedResolver(GaiResolver::new()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .set_host(false)
            .http1_preserve_header_case(true)
            // Odd fields that reverse proxies add and engines take: unfolded, or left out.
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .http1_max_headers(MAX_HEADERS);
        Self {
            kept: builder
                .pool_max_idle_per_host(MAX_IDLE)
                .build(connector.clone()),
            fresh: builder.pool_max_idle_per_host(0).build(connector),
        }
    }
}

impl Upstream {
    pub(crate) fn new(tls: &RegistryTls, stats: Arc<ProxyStats>) -> anyhow::Result<Self> {
        let clients = Arc::new(tls.per_registry(|config| Ok(Clients::new(config)))?);
        Ok(Self { clients, stats })
    }

    /// Where marks are set of what is sent.
    pub(crate) fn stats(&self) -> &Arc<ProxyStats> {
        &self.stats
    }

    /// Sends a request with an absolute URI. What has neither body nor effect is sent again
    /// if a kept connection breaks; everything else is sent at most once.
    pub(crate) async fn send(
        &self,
        request: Request<ProxyBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let uri = request.uri();
        link_local::check_literal(uri.host().unwrap_or_default())?;
        let host = uri
            .authority()
            .map_or_else(String::new, ToString::to_string);
        let port = uri.scheme().map_or(80, default_port);
        let port = uri.port_u16().unwrap_or(port);
        let registry = RegistryHost::new(uri.host().unwrap_or_default(), port);
        let Clients { kept, fresh } = self.clients.of(&registry);
        let (mut parts, body) = request.into_parts();
        parts.version = Version::HTTP_11;
        let is_repeatable =
            matches!(parts.method, Method::GET | Method::HEAD) && body.is_end_stream();
        let sent = if is_repeatable {
            let again = Request::from_parts(parts.clone(), body::empty());
            match kept.request(Request::from_parts(parts, body)).await {
                Err(error) if !error.is_connect() => {
                    set_mark!(self.stats, Mark::RequestRepeated, server = host, %error);
                    fresh.request(again).await
                }
                settled => settled,
            }
        } else {
            fresh.request(Request::from_parts(parts, body)).await
        };
        sent.map_err(|error| blame(host, &error))
    }
}

/// An [`io::Error`] does not name what it wraps as its source.
fn refused<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a LinkLocal> {
    cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

fn blame(host: String, error: &hyper_util::client::legacy::Error) -> UpstreamError {
    let mut cause: &dyn std::error::Error = error;
    let mut timed_out = false;
    while let Some(inner) = cause.source() {
        cause = inner;
        if let Some(refused) = refused(cause) {
            return UpstreamError::LinkLocal(refused.clone());
        }
        timed_out |= cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::TimedOut);
    }
    let reason = cause.to_string();
    match (timed_out, error.is_connect()) {
        (true, _) => UpstreamError::TimedOut { host },
        (false, true) => UpstreamError::Unreachable { host, reason },
        (false, false) => UpstreamError::BrokeOff { host, reason },
    }
}
