//! `flotilla proxy`.

use std::sync::Arc;

use flotilla_client::{Node, NodeConfig, control};
use flotilla_proxy::{CheckedContent, InterceptConfig, Proxy, ProxyConfig};
use flotilla_seeder::serve_metrics;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::service::{bind, finish, prepare_data_dir, ready, within_grace};
use crate::config::file::{ConfigFile, DEFAULT_PATH};
use crate::config::in_force::InForce;
use crate::config::of_host::{DRAGONFLY_FILE, proxy_in_force};
use crate::config::proxy::ProxyArgs;
use crate::config::{ConfigErrors, join_token, supernode_urls};
use crate::host_name::host_name;
use crate::logging;
use crate::otlp::Traces;

/// Runs a node's proxy until `shutdown`.
pub(super) async fn run(args: ProxyArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let file = ConfigFile::read(args.config.as_deref())?;
    let in_force = proxy_in_force(&args.options, &file)?;
    let registries = InForce::resolve(&args.registries, &file)?.options;
    let join_token_file = in_force.secret_file("join_token_file");
    let settings = in_force.options;
    let supernodes = supernode_urls::of_checked(&settings.supernodes);
    if supernodes.is_empty() {
        let error = format!(
            "no supernode: give --supernode http://ADDR:8001, or supernodes in [proxy] of {DEFAULT_PATH}, or [node] address=… in {DRAGONFLY_FILE}"
        );
        return Err(ConfigErrors(vec![error]).into());
    }
    let node_name = settings.node_name.unwrap_or_else(host_name);
    let endpoint = settings.common.otlp_endpoint.as_ref();
    let traces = Traces::start(
        endpoint,
        settings.common.trace_ratio,
        "flotilla-proxy",
        &node_name,
    )?;
    logging::start("info", traces.as_ref().map(Traces::tracer));
    prepare_data_dir(&settings.data_dir)?;
    let join_token = join_token::given(&join_token_file)?;
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
        origin_of: flotilla_registry::origin_of,
        join_token,
        node_name,
        cache_quota: settings.common.cache_quota.0,
        upload_rate: settings.upload_rate.0,
        download_rate: settings.download_rate.0,
    };
    let node = Node::start(node_config, peers, shutdown.clone()).await?;
    let proxy_config = ProxyConfig {
        registry: settings.registry,
        mirror_hosts: settings.mirror_hosts,
        egress: registries.egress(Some(settings.listen)),
        token_certificates: registries.token_certificates.clone(),
        registry_tls: registries.into(),
        seed_pushed: settings.seed_pushed,
        intercept,
    };
    if !settings.no_preheat {
        node.accept_prefetch();
    }
    let proxy = Proxy::new(&proxy_config, node.clone())?;
    let content = CheckedContent::new(&proxy_config, node.clone(), proxy.stats())?;
    if let Err(error) = control::offer(node.engine(), Some(Arc::new(content))) {
        tracing::warn!(%error, "control socket not opened: `flotilla get` does not use this proxy, and `flotilla cache` works only while it is stopped");
    }
    if let Some(listener) = metrics {
        let (stats, node) = (proxy.stats(), node.clone());
        let text = move || flotilla_proxy::metrics(&stats, &node);
        tokio::spawn(serve_metrics(listener, text, shutdown.clone()));
    }
    ready(&line)?;
    let served = within_grace(proxy.serve(engines, shutdown.clone()), shutdown).await;
    finish(traces).await;
    served?;
    node.engine().stopped().await;
    Ok(())
}
