//! `flotilla proxy`.

use std::sync::Arc;

use flotilla_client::{Node, NodeConfig, control};
use flotilla_proxy::{CheckedContent, InterceptConfig, Proxy, ProxyConfig};
use flotilla_seeder::exposition;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::service::{bind, finish, host_name, prepare_data_dir, ready, within_grace};
use crate::config::args::ProxyArgs;
use crate::config::{ProxySettings, join_token};
use crate::logging;
use crate::otlp::Traces;

/// Runs a node's proxy until `shutdown`.
pub(super) async fn run(args: ProxyArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
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
