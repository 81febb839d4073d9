//! Runs what the command line asks for.

pub(crate) mod cache;
pub(crate) mod get;
mod preheat;
mod status;
mod top;
pub(crate) mod torrent;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::CommandFactory as _;
use flotilla_client::{Node, NodeConfig, control};
use flotilla_proxy::{CheckedContent, InterceptConfig, Proxy, ProxyConfig};
use flotilla_seeder::exposition;
use flotilla_seeder::registry_login::LoginConfig;
use flotilla_seeder::{PreheatTriggers, Supernode, SupernodeConfig};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::cli::{Cli, Command, ProxyArgs, SupernodeArgs};
use crate::config::join_token;
use crate::config::preheat_auth;
use crate::config::{self, ProxySettings, SupernodeSettings};
use crate::logging;
use crate::otlp::Traces;

/// Time that running requests have to end after the first signal.
const GRACE: Duration = Duration::from_secs(10);

/// Runs one command to its end.
pub(crate) async fn run(cli: Cli, shutdown: CancellationToken) -> anyhow::Result<()> {
    match cli.command {
        Command::Supernode(args) => supernode(args, shutdown).await,
        Command::Proxy(args) => proxy(args, shutdown).await,
        Command::Get(args) => get::run(args, shutdown).await,
        Command::Preheat(args) => preheat::run(args, shutdown).await,
        Command::Status(args) => status::run(args).await,
        Command::Top(args) => top::run(args, shutdown).await,
        Command::Torrent(command) => torrent::run(command, shutdown).await,
        Command::Cache(args) => cache::run(args, shutdown).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "flotilla", &mut script);
            Ok(std::io::stdout().write_all(&script)?)
        }
        Command::Config { role } => {
            Ok(std::io::stdout().write_all(config::defaults(role)?.as_bytes())?)
        }
    }
}

async fn supernode(args: SupernodeArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (settings, registries) = SupernodeSettings::resolve(args)?;
    let endpoint = settings.otlp_endpoint.as_ref();
    let traces = Traces::start(
        endpoint,
        settings.trace_ratio,
        "flotilla-supernode",
        &host_name(),
    )?;
    logging::start("info", traces.as_ref().map(Traces::tracer));
    prepare_data_dir(&settings.data_dir)?;
    let token_file = settings.join_token_file.as_deref();
    let join_token = join_token::of_supernode(token_file, settings.listen, &settings.data_dir)?;
    let peer_address = settings.peer_address();
    let triggers = PreheatTriggers {
        logins: preheat_auth::given(settings.preheat_auth.as_deref())?,
        platforms: settings.preheat_platforms,
        nodes: settings.preheat_nodes,
    };
    let stats_token = join_token::for_stats(settings.stats_token_file.as_deref())?;
    let api = bind(settings.listen, "--listen").await?;
    let peers = bind(peer_address, "--peer-listen").await?;
    let (api_addr, peer_addr) = (api.local_addr()?, peers.local_addr()?);
    let udp = bind_udp(settings.udp_tracker.unwrap_or(api_addr)).await?;
    let config = SupernodeConfig {
        data_dir: settings.data_dir,
        join_token,
        stats_token,
        cache_quota: settings.cache_quota.0,
        upload_rate: settings.upload_rate.0,
        registry_rate: settings.registry_rate.0,
        shared_registries: settings.shared_registries,
        token_certificates: registries.token_certificates.clone(),
        registry_tls: registries.into(),
        open_repositories: settings.open_repositories,
        logins: LoginConfig {
            auth_file: settings.registry_auth,
            registries: settings.preheat_registries,
        },
    };
    let supernode = Supernode::start(&config, api, peers, shutdown.clone())?;
    let supernode = supernode
        .with_udp_tracker(udp)?
        .with_preheat_triggers(triggers)
        .context("--preheat-platform, --preheat-nodes")?;
    ready(&format!(
        "flotilla supernode ready on http://{api_addr} (peers on {peer_addr})"
    ))?;
    let served = within_grace(supernode.serve(), shutdown).await;
    finish(traces).await;
    served
}

async fn proxy(args: ProxyArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (settings, supernodes, registries) = ProxySettings::resolve(args)?;
    let node_name = settings.node_name.unwrap_or_else(host_name);
    let endpoint = settings.otlp_endpoint.as_ref();
    let traces = Traces::start(endpoint, settings.trace_ratio, "flotilla-proxy", &node_name)?;
    logging::start("info", traces.as_ref().map(Traces::tracer));
    prepare_data_dir(&settings.data_dir)?;
    let join_token = join_token::given(settings.join_token_file.as_deref())?;
    let engines = bind(settings.listen, "--listen").await?;
    let peers = bind(settings.peer_listen, "--peer-listen").await?;
    let metrics = match settings.metrics_listen {
        Some(address) => Some(bind(address, "--metrics-listen").await?),
        None => None,
    };
    let (engine_addr, peer_addr) = (engines.local_addr()?, peers.local_addr()?);
    let names: Vec<&str> = supernodes.iter().map(Url::as_str).collect();
    let line = format!(
        "flotilla proxy ready on http://{engine_addr} (peers on {peer_addr}, supernodes: {})",
        names.join(", ")
    );
    let intercept = (!settings.intercept.is_empty()).then(|| InterceptConfig {
        registries: settings.intercept,
        ca_dir: settings.data_dir.clone(),
    });
    let node_config = NodeConfig {
        data_dir: settings.data_dir,
        supernodes,
        join_token,
        node_name,
        cache_quota: settings.cache_quota.0,
        upload_rate: settings.upload_rate.0,
        download_rate: settings.download_rate.0,
    };
    let node = Node::start(node_config, peers, shutdown.clone()).await?;
    let proxy_config = ProxyConfig {
        registry: settings.registry,
        mirror_hosts: settings.mirror_hosts,
        token_certificates: registries.token_certificates.clone(),
        registry_tls: registries.into(),
        seed_pushed: settings.seed_pushed,
        intercept,
    };
    if !settings.no_preheat {
        node.take_orders();
    }
    let proxy = Proxy::new(&proxy_config, node.clone())?;
    let content = CheckedContent::new(&proxy_config, node.clone())?;
    if let Err(error) = control::offer(node.engine(), Some(Arc::new(content))) {
        tracing::warn!(%error, "no control socket: `flotilla cache` needs the proxy stopped");
    }
    if let Some(listener) = metrics {
        let (stats, node) = (proxy.stats(), node.clone());
        let text = move || flotilla_proxy::metrics(&stats, &node);
        tokio::spawn(exposition::serve(listener, text, shutdown.clone()));
    }
    ready(&line)?;
    let served = within_grace(proxy.serve(engines, shutdown.clone()), shutdown).await;
    finish(traces).await;
    served?;
    node.engine().stopped().await;
    Ok(())
}

async fn finish(traces: Option<Traces>) {
    if let Some(traces) = traces {
        traces.finish().await;
    }
}

/// A directory that can be written, or an error before anything starts.
fn prepare_data_dir(dir: &Path) -> anyhow::Result<()> {
    let usable = std::fs::create_dir_all(dir).and_then(|()| {
        let probe = dir.join(".writable");
        std::fs::write(&probe, b"")?;
        std::fs::remove_file(&probe)
    });
    usable.with_context(|| {
        format!(
            "data directory {} cannot be written; choose another with --data-dir",
            dir.display()
        )
    })
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot listen on {address}; choose another address with {flag}"))
}

async fn bind_udp(address: SocketAddr) -> anyhow::Result<UdpSocket> {
    let bound = UdpSocket::bind(address).await;
    bound.with_context(|| {
        format!("cannot listen on UDP {address} for the tracker; choose another address with --udp-tracker")
    })
}

fn ready(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Runs `serving`, and no longer than the grace period after `shutdown`.
async fn within_grace(
    serving: impl Future<Output = anyhow::Result<()>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => served,
        () = overdue => Ok(()),
    }
}

fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "unnamed".to_owned()
    } else {
        name
    }
}
