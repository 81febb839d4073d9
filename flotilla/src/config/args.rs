//! The arguments of the roles.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use flotilla_seeder::open_repository::OpenRepository;
use flotilla_seeder::registry_host::RegistryHost;
use flotilla_seeder::registry_login::OwnRegistry;
use flotilla_seeder::registry_tls::ClientCertificate;
use flotilla_seeder::registry_token::TokenCertificate;
use url::Url;

use crate::config::units::{ByteCount, Rate};
use crate::otlp::TraceArgs;

const SUPERNODE_EXAMPLES: &str = "\
Examples:
  flotilla supernode --listen 10.0.0.1:8001
  flotilla supernode --listen 127.0.0.1:8001 --data-dir ./data --registry-rate 100MB/s
  flotilla supernode --listen 10.0.0.1:8001 --open-repository registry.example/public/*";

/// Flags win over the environment, the environment over the configuration file, that over
/// the defaults.
#[derive(Debug, Args)]
#[command(after_help = SUPERNODE_EXAMPLES)]
pub(crate) struct SupernodeArgs {
    /// Address of the cluster API and tracker [default: 127.0.0.1:8001]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address for pieces [default: the listen address, port + 1000]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) peer_listen: Option<SocketAddr>,
    /// Address of the tracker over UDP [default: the listen address]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) udp_tracker: Option<SocketAddr>,
    /// Limit on what is sent to peers, e.g. 200MB/s
    #[arg(long, value_name = "RATE")]
    pub(crate) upload_rate: Option<Rate>,
    /// Limit on what is read from registries, e.g. 100MB/s
    #[arg(long, value_name = "RATE")]
    pub(crate) registry_rate: Option<Rate>,
    /// A registry under the same operator as the others given so: a layer that several of them
    /// have is one swarm and on the disk once; repeatable
    #[arg(long, value_name = "URL")]
    pub(crate) shared_registry: Vec<Url>,
    /// A repository whose layers anybody may have, without login and with any BitTorrent client,
    /// from http://LISTEN/torrents/DIGEST.torrent; with /* after it, all below that name; repeatable
    #[arg(long, value_name = "HOST[:PORT]/REPOSITORY[/*]")]
    pub(crate) open_repository: Vec<OpenRepository>,
    /// Logins of the supernode's own, as Docker's config.json or podman's auth.json: for
    /// preheating, and for layers whose callers' tokens expire on the way
    #[arg(long, value_name = "FILE")]
    pub(crate) registry_auth: Option<PathBuf>,
    /// A registry that images are preheated from, besides those of --registry-auth; with http://
    /// before it when it has no TLS; repeatable
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) preheat_registry: Vec<OwnRegistry>,
    /// What Harbor and other triggers of preheats show, a line each: bearer TOKEN, basic
    /// USER:PASSWORD, harbor-basic USER:PASSWORD, header NAME: VALUE, or none (or set
    /// FLOTILLA_PREHEAT_AUTH)
    #[arg(long, value_name = "FILE")]
    pub(crate) preheat_auth: Option<PathBuf>,
    /// Preheats of such triggers are only for this platform; repeatable [default: all that an
    /// image has]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) preheat_platform: Vec<String>,
    /// Nodes that get the layers of such preheats as well, a glob of their names, where the trigger
    /// does not say it [default: none]
    #[arg(long, value_name = "GLOB")]
    pub(crate) preheat_nodes: Option<String>,
    /// File with a secret that lets the statistics be seen from other machines, without joining (or
    /// set FLOTILLA_STATS_TOKEN); the join token does too
    #[arg(long, value_name = "FILE")]
    pub(crate) stats_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

const PROXY_EXAMPLES: &str = "\
Examples:
  flotilla proxy --supernode http://10.0.0.1:8001 \\
      --peer-listen 0.0.0.0:65002
  flotilla proxy --supernode http://a:8001,http://b:8001 --registry http://harbor:80 \\
      --upload-rate 50MB/s

Without --supernode, the list is read from [node] address=… in /etc/dragonfly.conf.";

/// Flags win over the environment, the environment over the configuration file, that over
/// the defaults.
#[derive(Debug, Args)]
#[command(after_help = PROXY_EXAMPLES)]
pub(crate) struct ProxyArgs {
    /// Address for the container engines [default: 127.0.0.1:65001]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address for pieces [default: 0.0.0.0:65002]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) peer_listen: Option<SocketAddr>,
    /// The supernodes, separated by commas
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) supernode: Vec<String>,
    /// The registry behind mirror requests that name none
    #[arg(long, value_name = "URL")]
    pub(crate) registry: Option<Url>,
    /// A further registry that mirror requests may name with ?ns=, HOST[:PORT], with http://
    /// before it when it has no TLS; repeatable
    #[arg(long, value_name = "HOST")]
    pub(crate) mirror_host: Vec<String>,
    /// An HTTPS registry whose layers come from the swarm also where engines reach it by
    /// CONNECT; they have to trust DATA-DIR/ca.crt for it; repeatable
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) intercept: Vec<RegistryHost>,
    /// Let layers that are pushed through the proxy seed at once, before anybody pulls them
    #[arg(long)]
    pub(crate) seed_pushed: bool,
    /// Fetch nothing before it is pulled: supernodes ask this node for no preheats
    #[arg(long)]
    pub(crate) no_preheat: bool,
    /// Limit on what is sent to peers, e.g. 20MB/s
    #[arg(long, value_name = "RATE")]
    pub(crate) upload_rate: Option<Rate>,
    /// Limit on what is received from peers, e.g. 200MB/s
    #[arg(long, value_name = "RATE")]
    pub(crate) download_rate: Option<Rate>,
    /// Address for Prometheus, http://ADDR:PORT/metrics; to everybody who can reach it [default: none]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Name of this node for operators [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// What supernode and proxy have in common.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// Where layers are kept [default: /var/lib/flotilla/supernode or /var/lib/flotilla/proxy]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Disk space for layers; the least recently used leave [default: 64GiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) cache_quota: Option<ByteCount>,
    /// File with the cluster's secret (or set FLOTILLA_JOIN_TOKEN)
    #[arg(long, value_name = "FILE")]
    pub(crate) join_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registries: RegistryArgs,
    #[command(flatten)]
    pub(crate) traces: TraceArgs,
    /// Configuration file [default: /etc/flotilla/flotilla.toml when it exists]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// How registries are reached, by whoever reaches them.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// PEM file with a further certificate authority for registries; repeatable
    #[arg(long, value_name = "FILE")]
    pub(crate) registry_ca: Vec<PathBuf>,
    /// A registry whose certificate is not verified; repeatable
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) insecure_registry: Vec<RegistryHost>,
    /// Certificate and key, PEM files, for a registry that asks for them; repeatable
    #[arg(long, value_name = "HOST[:PORT]=CERT,KEY")]
    pub(crate) client_certificate: Vec<ClientCertificate>,
    /// What a registry's token service signs for, a PEM certificate: its tokens are then verified
    /// here instead of at the registry, for layers that it has given before; repeatable
    #[arg(long, value_name = "HOST[:PORT]=FILE")]
    pub(crate) token_certificate: Vec<TokenCertificate>,
}
