//! The proxy's listener and its connections.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use flotilla_registry::egress::Egress;
use flotilla_registry::names::host_pattern::HostPattern;
use flotilla_registry::tls::RegistryTls;
use flotilla_registry::token::TokenCertificate;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, TryAcquireError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::front::connection::{Permit, serve_client};
use crate::front::dispatch::Dispatch;
use crate::front::target::Entrance;
use crate::front::upstream::Upstream;
use crate::layers::caller_check::CallerCheck;
use crate::layers::response::Layers;
use crate::layers::source::LayerSource;
use crate::manifests::image_names::ImageNames;
use crate::manifests::tee::ManifestTee;
use crate::marks::{Mark, set_mark};
use crate::mirror::hosts::{MirrorHosts, Registry};
use crate::pushes::uploads::Uploads;
use crate::stats::ProxyStats;
use crate::tls::interception::{InterceptConfig, Interception};

/// Connections of clients, and the tunnels that they became.
const MAX_CONNECTIONS: usize = 4096;
/// What a response under way may still take after the shutdown has begun.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// After an accept that failed, most likely for want of file descriptors.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// How often abandoned uploads are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);
/// Pushed layers that are hashed at the same time.
const MAX_KEEPING: usize = 2;

/// Configuration of a [`Proxy`].
///
/// # Defaults
/// No default registry, no mirror hosts, the platform's certificate authorities only.
#[derive(Clone, Debug, Default)]
pub struct ProxyConfig {
    /// The registry of mirror requests that name none with `ns`: `http[s]://HOST[:PORT]`.
    pub registry: Option<Url>,
    /// Further registries that mirror requests may name.
    pub mirror_hosts: Vec<HostPattern>,
    /// How registries are verified.
    pub registry_tls: RegistryTls,
    /// Which HTTP proxies lead to registries.
    pub egress: Egress,
    /// Token services whose tokens the proxy verifies itself.
    pub token_certificates: Vec<TokenCertificate>,
    /// Whether layers seed as soon as they were pushed through the proxy.
    pub seed_pushed: bool,
    /// HTTPS registries whose layers come from the swarm also through `CONNECT`.
    pub intercept: Option<InterceptConfig>,
}

/// The proxy: give it a listener with [`Proxy::serve`].
pub struct Proxy {
    dispatch: Arc<Dispatch>,
    max_connections: usize,
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
        let stats = Arc::new(ProxyStats::default());
        let upstream = Upstream::new(&config.registry_tls, &config.egress, Arc::clone(&stats))?;
        let callers = CallerCheck::new(
            &config.registry_tls,
            &config.egress,
            &config.token_certificates,
        )?;
        let names = ImageNames::default();
        let layers = Arc::new(Layers {
            source: Arc::new(source),
            callers,
            upstream,
            stats: Arc::clone(&stats),
            names: names.clone(),
            keeping: Semaphore::new(MAX_KEEPING),
        });
        let uploads = config
            .seed_pushed
            .then(|| Arc::new(Uploads::new(Arc::clone(&layers.source), Arc::clone(&stats))));
        let mirrors = mirror_hosts(config)?;
        let pseudonym = format!("flotilla-{:016x}", random_number());
        let interception = config
            .intercept
            .as_ref()
            .map(|config| Interception::new(config, &stats))
            .transpose()?;
        let dispatch = Dispatch {
            mirrors,
            interception,
            layers,
            manifests: ManifestTee::new(names, stats),
            uploads,
            tunnels: TaskTracker::new(),
            draining: CancellationToken::new(),
            closed: CancellationToken::new(),
            pseudonym,
        };
        Ok(Self {
            dispatch: Arc::new(dispatch),
            max_connections: MAX_CONNECTIONS,
        })
    }

    /// Serves at most `connections` at the same time, tunnels included; the next clients wait.
    /// Without it 4096.
    #[must_use]
    pub fn limit_connections(self, connections: usize) -> Self {
        Self {
            max_connections: connections,
            ..self
        }
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
        let permits = Arc::new(Semaphore::new(self.max_connections));
        if let Some(uploads) = self.dispatch.uploads.clone() {
            let forgetting = forget_abandoned(uploads);
            tokio::spawn(shutdown.clone().run_until_cancelled_owned(forgetting));
        }
        loop {
            let accepting = async {
                let permit = match Arc::clone(&permits).try_acquire_owned() {
                    Err(TryAcquireError::NoPermits) => {
                        let connections = self.max_connections;
                        set_mark!(self.stats(), Mark::ConnectionsFull, connections);
                        Arc::clone(&permits).acquire_owned().await.ok()
                    }
                    permit => permit.ok(),
                };
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accepting => accepted,
            };
            // The semaphore is never closed.
            let Some(permit) = permit else { break };
            let permit = Permit::of(permit);
            match accepted {
                Ok((stream, client)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(client.addr = %client, %error, "TCP_NODELAY not set");
                    }
                    let dispatch = Arc::clone(&self.dispatch);
                    let serving =
                        serve_client(dispatch, stream, Entrance::Listener, client, permit);
                    let closed = self.dispatch.closed.clone();
                    connections.spawn(async move { closed.run_until_cancelled(serving).await });
                }
                Err(error) => {
                    set_mark!(self.stats(), Mark::AcceptFailed, %error);
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
            "proxy is draining"
        );
        connections.close();
        tunnels.close();
        let drained = async {
            connections.wait().await;
            tunnels.wait().await;
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            let (connections, tunnels) = (connections.len(), tunnels.len());
            set_mark!(self.stats(), Mark::DrainTimedOut, connections, tunnels);
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

fn mirror_hosts(config: &ProxyConfig) -> anyhow::Result<MirrorHosts> {
    let default = match &config.registry {
        None => None,
        Some(url) => Some(
            Registry::from_url(url)
                .with_context(|| format!("registry {url} is not http[s]://HOST[:PORT]"))?,
        ),
    };
    Ok(MirrorHosts {
        default,
        allowed: config.mirror_hosts.clone(),
    })
}

/// The standard library seeds its hash maps with the operating system's randomness.
fn random_number() -> u64 {
    RandomState::new().build_hasher().finish()
}
