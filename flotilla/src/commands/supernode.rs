//! `flotilla supernode`.

use anyhow::Context as _;
use flotilla_registry::login::LoginConfig;
use flotilla_seeder::{PreheatTriggers, Supernode, SupernodeConfig};
use tokio_util::sync::CancellationToken;

use super::service::{bind, bind_udp, finish, prepare_data_dir, ready, within_grace};
use crate::config::file::ConfigFile;
use crate::config::in_force::InForce;
use crate::config::supernode::{SupernodeArgs, SupernodeOptions};
use crate::config::{join_token, preheat_auth};
use crate::host_name::host_name;
use crate::logging;
use crate::otlp::Traces;

/// Runs a supernode until `shutdown`.
pub(super) async fn run(args: SupernodeArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let file = ConfigFile::read(args.config.as_deref())?;
    let in_force = InForce::resolve(&args.options, &file)?;
    let registries = InForce::resolve(&args.registries, &file)?.options;
    let join_token_file = in_force.secret_file("join_token_file");
    let stats_token_file = in_force.secret_file("stats_token_file");
    let preheat_auth_file = in_force.secret_file("preheat_auth");
    let settings: SupernodeOptions = in_force.options;
    let endpoint = settings.common.otlp_endpoint.as_ref();
    let traces = Traces::start(
        endpoint,
        settings.common.trace_ratio,
        "flotilla-supernode",
        &host_name(),
    )?;
    logging::start("info", traces.as_ref().map(Traces::tracer));
    prepare_data_dir(&settings.data_dir)?;
    let join_token =
        join_token::of_supernode(&join_token_file, settings.listen, &settings.data_dir)?;
    let peer_address = settings.peer_address();
    let triggers = PreheatTriggers {
        logins: preheat_auth::given(&preheat_auth_file)?,
        platforms: settings.preheat_platforms,
        nodes: settings.preheat_nodes,
    };
    let stats_token = join_token::for_stats(&stats_token_file)?;
    let api = bind(settings.listen, "--listen").await?;
    let peers = bind(peer_address, "--peer-listen").await?;
    let (api_addr, peer_addr) = (api.local_addr()?, peers.local_addr()?);
    let udp = bind_udp(settings.udp_tracker.unwrap_or(api_addr)).await?;
    let config = SupernodeConfig {
        data_dir: settings.data_dir,
        join_token,
        stats_token,
        cache_quota: settings.common.cache_quota.0,
        upload_rate: settings.upload_rate.0,
        registry_rate: settings.registry_rate.0,
        shared_registries: settings.shared_registries,
        egress: registries.egress(None),
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
        .context("--preheat-platform")?;
    ready(&format!(
        "flotilla supernode ready on http://{api_addr} (peers on {peer_addr})"
    ))?;
    let served = within_grace(supernode.serve(), shutdown).await;
    finish(traces).await;
    served
}
