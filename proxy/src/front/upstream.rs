//! The HTTP client towards registries and the other servers that engines ask for.

pub(crate) mod connector;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_registry::egress::Egress;
use flotilla_registry::names::host::{PerRegistry, RegistryHost};
use flotilla_registry::tls::RegistryTls;
use futures_util::future::{self, Either};
use http::header::PROXY_AUTHORIZATION;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use self::connector::{Connector, OpenedAt};
use crate::body::{self, ProxyBody};
use crate::front::http_limits::{MAX_HEAD_BYTES, MAX_HEADERS};
use crate::front::link_local;
use crate::front::link_local::LinkLocal;
use crate::marks::{Mark, set_mark};
use crate::mirror::hosts::default_port;
use crate::oci_error::Refusal;
use crate::stats::ProxyStats;

/// For the requests of one pull. Load balancers forget what is idle for longer, and servers close it
/// just as it is used again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// After so much silence on a kept connection the same is asked on a new one as well.
const KEPT_TIMEOUT: Duration = Duration::from_millis(500);
const MAX_IDLE: usize = 16;
const NO_LOGIN_AT_PROXY: &str =
    "the HTTP proxy before it wants a login: give --registry-proxy http://USER:PASSWORD@HOST:PORT";

/// Sends requests, to each registry as its TLS settings say.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    clients: Arc<PerRegistry<Clients>>,
    connector: Connector,
    stats: Arc<ProxyStats>,
}

/// Two clients, as not every request may be sent twice.
#[derive(Debug)]
struct Clients {
    /// Keeps connections for the next request.
    kept: Client<HttpsConnector<Connector>, ProxyBody>,
    /// A connection of its own for each request, which cannot have been closed or forgotten meanwhile.
    fresh: Client<HttpsConnector<Connector>, ProxyBody>,
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
    fn new(tls: rustls::ClientConfig, connector: Connector) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
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
    pub(crate) fn new(
        tls: &RegistryTls,
        egress: &Egress,
        stats: Arc<ProxyStats>,
    ) -> anyhow::Result<Self> {
        let connector = Connector::new(egress.clone());
        let clients = tls.per_registry(|config| Ok(Clients::new(config, connector.clone())))?;
        Ok(Self {
            clients: Arc::new(clients),
            connector,
            stats,
        })
    }

    /// What connections are made with.
    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Where marks are set of what is sent.
    pub(crate) fn stats(&self) -> &Arc<ProxyStats> {
        &self.stats
    }

    /// Sends a request with an absolute URI. What has neither body nor effect is sent again
    /// if a kept connection breaks or is silent; everything else is sent at most once.
    pub(crate) async fn send(
        &self,
        mut request: Request<ProxyBody>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let uri = request.uri();
        link_local::check_literal(uri.host().unwrap_or_default())?;
        let host = uri
            .authority()
            .map_or_else(String::new, ToString::to_string);
        let port = uri.scheme().map_or(80, default_port);
        let port = uri.port_u16().unwrap_or(port);
        let registry = RegistryHost::new(uri.host().unwrap_or_default(), port);
        let way = self.connector.way_of_request(uri);
        let is_at_proxy = way.is_some();
        if let Some(authorization) = way.and_then(|way| way.authorization) {
            request
                .headers_mut()
                .insert(PROXY_AUTHORIZATION, authorization);
        }
        *request.version_mut() = Version::HTTP_11;
        let clients = self.clients.of(&registry);
        let sent = if may_share_a_connection(&request) {
            Box::pin(self.send_on_kept(clients, request, &host)).await
        } else {
            clients.fresh.request(request).await
        };
        let response = sent.map_err(|error| blame(host.clone(), &error))?;
        if is_at_proxy && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(UpstreamError::Unreachable {
                host,
                reason: NO_LOGIN_AT_PROXY.to_owned(),
            });
        }
        Ok(response)
    }

    async fn send_on_kept(
        &self,
        Clients { kept, fresh }: &Clients,
        request: Request<ProxyBody>,
        server: &str,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        let (parts, body) = request.into_parts();
        let again = Request::from_parts(parts.clone(), body::empty());
        let mut request = Request::from_parts(parts, body);
        let begun = Instant::now();
        let connection = capture_connection(&mut request);
        let first = pin!(kept.request(request));
        let silent = pin!(silence_of_kept(connection, begun));
        let first = match future::select(first, silent).await {
            Either::Left((Err(error), _)) if !error.is_connect() => {
                set_mark!(self.stats, Mark::RequestRepeated, server, %error);
                return fresh.request(again).await;
            }
            Either::Left((settled, _)) => return settled,
            Either::Right(((), first)) => first,
        };
        set_mark!(self.stats, Mark::RequestRepeated, server, reason = "silent");
        match future::select(first, fresh.request(again)).await {
            Either::Left((Ok(response), _)) | Either::Right((Ok(response), _)) => Ok(response),
            Either::Left((Err(_), second)) => second.await,
            Either::Right((Err(_), first)) => first.await,
        }
    }
}

/// Whether a request may go on a connection that others have used: it can be sent twice, and does not
/// bring a blob, for which engines begin a connection as well.
fn may_share_a_connection(request: &Request<ProxyBody>) -> bool {
    let is_repeatable = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_blob = *request.method() == Method::GET && request.uri().path().contains("/blobs/");
    is_repeatable && !is_blob && request.body().is_end_stream()
}

/// Ends when a connection that was opened before has been silent for too long; never for a new one.
async fn silence_of_kept(connection: CaptureConnection, begun: Instant) {
    tokio::time::sleep(KEPT_TIMEOUT).await;
    let is_kept = || {
        let metadata = connection.connection_metadata();
        let mut extras = http::Extensions::new();
        metadata.as_ref()?.get_extras(&mut extras);
        let OpenedAt(opened) = extras.get()?;
        Some(*opened < begun)
    };
    if is_kept() != Some(true) {
        future::pending::<()>().await;
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
