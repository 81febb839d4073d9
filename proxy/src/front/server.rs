//! The proxy's listener and its connections.

use std::convert::Infallible;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use flotilla_registry::tls::RegistryTls;
use flotilla_registry::token::TokenCertificate;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::front::dispatch::Dispatch;
use crate::front::idle::Activity;
use crate::front::target::Entrance;
use crate::front::upstream::Upstream;
use crate::layers::caller_check::CallerCheck;
use crate::layers::response::Layers;
use crate::layers::source::LayerSource;
use crate::manifests::image_names::ImageNames;
use crate::manifests::tee::ManifestTee;
use crate::mirror::hosts::{MirrorHosts, Registry};
use crate::pushes::uploads::Uploads;
use crate::stats::ProxyStats;
use crate::tls::interception::{InterceptConfig, Interception};

/// Harbor's tokens for many repositories have 16 KiB, signed URLs 2 KiB more.
pub(crate) const MAX_HEAD_BYTES: usize = 256 * 1024;
pub(crate) const MAX_HEADERS: usize = 256;
/// An idle or half-written request head; engines keep connections for minutes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Connections of clients, and the tunnels that they became.
const MAX_CONNECTIONS: usize = 4096;
/// Without a byte to or from the client, whatever it waits for or does not read. Longer than
/// all that has a limit and an answer of its own: this one just closes.
const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// What a response under way may still take after the shutdown has begun.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// After an accept that failed, most likely for want of file descriptors.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// How often uploads that nobody goes on with are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);
/// Pushed layers hashed and given away at the same time.
const MAX_KEEPING: usize = 2;

/// One of [`MAX_CONNECTIONS`]; shared by a connection and its tunnel.
#[derive(Clone, Debug)]
pub(crate) struct Permit(
    #[expect(dead_code, reason = "given back on drop")] Arc<OwnedSemaphorePermit>,
);

/// Configuration of a [`Proxy`].
///
/// # Defaults
/// No default registry, no mirror hosts, the platform's certificate authorities only.
#[derive(Clone, Debug, Default)]
pub struct ProxyConfig {
    /// The registry of mirror requests that name none with `ns`: `http[s]://HOST[:PORT]`.
    pub registry: Option<Url>,
    /// Further registries that mirror requests may name: `HOST[:PORT]` or `*.DOMAIN`, with
    /// `http://` before it for a registry without TLS.
    pub mirror_hosts: Vec<String>,
    /// How registries are verified.
    pub registry_tls: RegistryTls,
    /// Token services whose tokens need not be shown to their registries.
    pub token_certificates: Vec<TokenCertificate>,
    /// Whether layers seed as soon as they were pushed through the proxy.
    pub seed_pushed: bool,
    /// HTTPS registries whose layers come from the swarm also through `CONNECT`.
    pub intercept: Option<InterceptConfig>,
}

/// The proxy: give it a listener with [`Proxy::serve`].
pub struct Proxy {
    dispatch: Arc<Dispatch>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy")
            .field("stats", &self.stats().counts())
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// A proxy that takes layers from `source`.
    ///
    /// # Errors
    /// The registry is not `http[s]://HOST[:PORT]`, a mirror host is malformed, or a CA file
    /// cannot be read; each names the value.
    pub fn new(config: &ProxyConfig, source: impl LayerSource) -> anyhow::Result<Self> {
        let upstream = Upstream::new(&config.registry_tls)?;
        let callers = CallerCheck::new(&config.registry_tls, &config.token_certificates)?;
        let stats = Arc::new(ProxyStats::default());
        let names = ImageNames::default();
        let layers = Arc::new(Layers {
            source: Arc::new(source),
            callers,
            upstream,
            stats,
            names: names.clone(),
            keeping: Semaphore::new(MAX_KEEPING),
        });
        let uploads = config
            .seed_pushed
            .then(|| Arc::new(Uploads::new(Arc::clone(&layers.source))));
        let mirrors = mirror_hosts(config)?;
        let pseudonym = format!("flotilla-{:016x}", random_number());
        let interception = config
            .intercept
            .as_ref()
            .map(Interception::new)
            .transpose()?;
        let dispatch = Dispatch {
            mirrors,
            interception,
            layers,
            manifests: ManifestTee::new(names),
            uploads,
            tunnels: TaskTracker::new(),
            draining: CancellationToken::new(),
            closed: CancellationToken::new(),
            pseudonym,
        };
        Ok(Self {
            dispatch: Arc::new(dispatch),
        })
    }

    /// What the proxy has done so far.
    pub fn stats(&self) -> Arc<ProxyStats> {
        Arc::clone(&self.dispatch.layers.stats)
    }

    /// Serves until `shutdown`, then lets responses and tunnels under way finish within ten
    /// seconds.
    ///
    /// # Errors
    /// None at present: a connection that fails fails alone.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let connections = TaskTracker::new();
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        if let Some(uploads) = self.dispatch.uploads.clone() {
            let forgetting = forget_abandoned(uploads);
            tokio::spawn(shutdown.clone().run_until_cancelled_owned(forgetting));
        }
        loop {
            let accepting = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accepting => accepted,
            };
            // Nobody closes the semaphore.
            let Ok(permit) = permit else { break };
            let permit = Permit(Arc::new(permit));
            match accepted {
                Ok((stream, client)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "no TCP_NODELAY");
                    }
                    let dispatch = Arc::clone(&self.dispatch);
                    let serving =
                        serve_client(dispatch, stream, Entrance::Listener, client, permit);
                    let closed = self.dispatch.closed.clone();
                    connections.spawn(async move { closed.run_until_cancelled(serving).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a client failed");
                    tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
                }
            }
        }
        drop(listener);
        self.dispatch.draining.cancel();
        self.drain(&connections).await;
        Ok(())
    }

    async fn drain(&self, connections: &TaskTracker) {
        let tunnels = &self.dispatch.tunnels;
        tracing::info!(
            connections = connections.len(),
            tunnels = tunnels.len(),
            "draining"
        );
        connections.close();
        tunnels.close();
        let drained = async {
            connections.wait().await;
            tunnels.wait().await;
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            let (connections, tunnels) = (connections.len(), tunnels.len());
            tracing::warn!(connections, tunnels, "closing what has not ended in time");
            self.dispatch.closed.cancel();
        }
        tracing::info!(counts = ?self.stats().counts(), "proxy stopped");
    }
}

async fn forget_abandoned(uploads: Arc<Uploads>) {
    let mut ticks = tokio::time::interval(EXPIRY_INTERVAL);
    loop {
        ticks.tick().await;
        uploads.forget_abandoned(Instant::now());
    }
}

/// Answers one client until it leaves; once the proxy is draining only what it has asked
/// already. A client that closes its side has left: no engine waits for an answer then, and a
/// registry that never gives one would hold the connection.
pub(crate) async fn serve_client<S>(
    dispatch: Arc<Dispatch>,
    stream: S,
    entrance: Entrance,
    client: SocketAddr,
    permit: Permit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let draining = dispatch.draining.clone();
    let service = service_fn(move |request| {
        let (dispatch, entrance) = (Arc::clone(&dispatch), entrance.clone());
        let permit = permit.clone();
        async move {
            let answer = dispatch.answer(request, &entrance, client, &permit);
            // Too large to be moved about.
            Ok::<_, Infallible>(Box::pin(answer).await)
        }
    });
    let activity = Activity::new();
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(activity.of_stream(stream)), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let serving = async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    match activity.limit(CONNECTION_IDLE_TIMEOUT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(client.addr = %client, %error, "connection ended"),
        Err(idle) => tracing::debug!(client.addr = %client, %idle, "connection ended"),
    }
}

fn mirror_hosts(config: &ProxyConfig) -> anyhow::Result<MirrorHosts> {
    let default = match &config.registry {
        None => None,
        Some(url) => Some(
            Registry::from_url(url)
                .with_context(|| format!("registry {url} is not http[s]://HOST[:PORT]"))?,
        ),
    };
    let allowed = config
        .mirror_hosts
        .iter()
        .map(|pattern| pattern.parse())
        .collect::<Result<_, _>>()?;
    Ok(MirrorHosts { default, allowed })
}

/// The standard library seeds its hash maps with the operating system's randomness.
fn random_number() -> u64 {
    RandomState::new().build_hasher().finish()
}
