//! `CONNECT` to a listed registry: the proxy answers as the registry, with a certificate of
//! its own authority, so that it sees which layer is asked for.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use flotilla_registry::names::host::RegistryHost;
use http::Request;
use http::uri::Authority;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use moka::sync::Cache;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::marks::Mark;
use crate::stats::ProxyStats;
use crate::tls::authority::CertificateAuthority;

/// Engines give a handshake ten seconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Certificates live for a month.
const LEAF_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
const MAX_LEAVES: u64 = 1000;

/// Which registries to intercept, and where to keep the certificate authority for it.
#[derive(Clone, Debug)]
pub struct InterceptConfig {
    /// The registries, by the names that engines use for them.
    pub registries: Vec<RegistryHost>,
    /// The directory of `ca.crt` and `ca.key`.
    pub ca_dir: PathBuf,
}

/// Answers in the name of the listed registries.
pub(crate) struct Interception {
    registries: Vec<RegistryHost>,
    authority: CertificateAuthority,
    leaves: Cache<String, Arc<ServerConfig>>,
}

/// What an intercepted client's requests go to: it named the server by `CONNECT`, by SNI, or
/// both.
pub(crate) struct Intercepted {
    pub(crate) stream: TlsStream<TokioIo<Upgraded>>,
    pub(crate) registry: Authority,
}

/// The handshake with a client failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InterceptError {
    #[error("the client left before its tunnel was open: {0}")]
    Left(#[from] hyper::Error),
    #[error("the handshake failed: {0}")]
    Handshake(#[from] io::Error),
    #[error("the handshake takes too long")]
    TimedOut,
    #[error("the client names {0}, which is not intercepted")]
    NotListed(String),
    #[error("certificate not made: {0:#}")]
    Certificate(anyhow::Error),
}

impl InterceptError {
    pub(crate) fn mark(&self) -> Mark {
        match self {
            Self::Left(_) | Self::Handshake(_) | Self::Certificate(_) => Mark::HandshakeFailed,
            Self::TimedOut => Mark::HandshakeTimedOut,
            Self::NotListed(_) => Mark::HandshakeNameUnlisted,
        }
    }
}

impl Interception {
    pub(crate) fn new(config: &InterceptConfig, stats: &ProxyStats) -> anyhow::Result<Self> {
        let authority = CertificateAuthority::open(&config.ca_dir, &config.registries, stats)
            .context("certificate authority for interception")?;
        let leaves = Cache::builder()
            .max_capacity(MAX_LEAVES)
            .time_to_live(LEAF_TTL)
            .build();
        Ok(Self {
            registries: config.registries.clone(),
            authority,
            leaves,
        })
    }

    /// Whether the server that `CONNECT` names is a listed registry.
    pub(crate) fn wants(&self, server: &Authority) -> bool {
        let port = server.port_u16().unwrap_or(443);
        self.registries
            .contains(&RegistryHost::new(server.host(), port))
    }

    /// The TLS handshake of the tunnel that `request` opens to `server`.
    pub(crate) async fn accept(
        &self,
        request: Request<Incoming>,
        server: &Authority,
    ) -> Result<Intercepted, InterceptError> {
        let client = TokioIo::new(hyper::upgrade::on(request).await?);
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.handshake(client, server));
        handshake.await.map_err(|_| InterceptError::TimedOut)?
    }

    async fn handshake(
        &self,
        client: TokioIo<Upgraded>,
        server: &Authority,
    ) -> Result<Intercepted, InterceptError> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), client).await?;
        let name = start.client_hello().server_name().map(str::to_owned);
        let registry = self.registry_for(server, name.as_deref())?;
        let host = registry
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let config = self
            .leaves
            .try_get_with(host.to_ascii_lowercase(), || {
                self.authority.server_config(host).map(Arc::new)
            })
            .map_err(|error| InterceptError::Certificate(anyhow::anyhow!("{error:#}")))?;
        Ok(Intercepted {
            stream: start.into_stream(config).await?,
            registry,
        })
    }

    /// The server that the client means: a name in its handshake (SNI) counts more than that
    /// of `CONNECT`, and both have to be listed.
    fn registry_for(
        &self,
        server: &Authority,
        name: Option<&str>,
    ) -> Result<Authority, InterceptError> {
        let Some(name) = name.filter(|name| !name.eq_ignore_ascii_case(server.host())) else {
            return Ok(server.clone());
        };
        let not_listed = || InterceptError::NotListed(name.to_owned());
        let port = server.port_u16().unwrap_or(443);
        let named = format!("{name}:{port}").parse().map_err(|_| not_listed())?;
        if self.wants(&named) {
            Ok(named)
        } else {
            Err(not_listed())
        }
    }
}
