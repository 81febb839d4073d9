//! `[proxy]`: the options of `flotilla proxy`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use flotilla_registry::names::host::RegistryHost;
use flotilla_registry::names::host_pattern::HostPattern;
use flotilla_registry::names::registry_origin::RegistryOrigin;
use url::Url;

use super::common::CommonOptions;
use super::given::Given;
use super::registries::RegistryOptions;
use super::section::Section;
use super::supernode_urls;
use super::units::Rate;
use crate::host_name::host_name;

/// The port that engines of the predecessor are set up for.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 65001);
const PEER_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 65002);
/// Not the supernode's: both roles may run on one host, and a data directory has one owner.
const DATA_DIR: &str = "/var/lib/flotilla/proxy";

macro_rules! examples {
    () => {
        "\
Examples:
  flotilla proxy --supernode http://10.0.0.1:8001
  flotilla proxy --supernode http://a:8001,http://b:8001 --registry http://harbor:80 \\
      --upload-rate 50MB/s"
    };
}

const DETAILS: &str = concat!(
    examples!(),
    "

A flag wins over the environment, the environment over the configuration file, and the file over \
the default. Repeatable flags add to the lists of the file; --supernode replaces its list. \
`flotilla config show proxy` prints the result."
);

/// The arguments of `flotilla proxy`.
#[derive(Debug, Args)]
#[command(after_help = examples!(), after_long_help = DETAILS)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    pub(crate) options: Given<ProxyOptions>,
    #[command(flatten)]
    pub(crate) registries: Given<RegistryOptions>,
    /// Configuration file [default: /etc/flotilla/flotilla.toml]
    ///
    /// The default file need not exist.
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub(crate) config: Option<PathBuf>,
}

/// Options of `[proxy]`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ProxyOptions {
    /// Address for container engines
    ///
    /// An HTTP proxy and a registry mirror for the engines of this machine. It has no credentials of
    /// its own: requests bring theirs.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = LISTEN, help_heading = "Addresses")]
    pub(crate) listen: SocketAddr,
    /// Address for pieces
    ///
    /// BitTorrent over TCP. The other nodes and the supernodes connect here.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = PEER_LISTEN, help_heading = "Addresses")]
    pub(crate) peer_listen: SocketAddr,
    /// Address for Prometheus [default: none]
    ///
    /// Metrics are at http://ADDR:PORT/metrics, without a login for every machine that reaches the
    /// address.
    ///
    /// Example: 10.0.0.11:65003
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Addresses")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Supernodes, separated by commas; repeatable
    ///
    /// Name all supernodes of the cluster. Without any, the list is read from [node] address=… in
    /// /etc/dragonfly.conf.
    ///
    /// Example: http://10.0.0.1:8001
    #[arg(
        long = "supernode",
        value_name = "URL",
        value_delimiter = ',',
        help_heading = "Cluster"
    )]
    pub(crate) supernodes: Vec<String>,
    /// Name of this node for operators [default: host name]
    ///
    /// Example: web-17
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) node_name: Option<String>,
    /// Refuse preheats that supernodes order
    #[arg(long, help_heading = "Cluster")]
    pub(crate) no_preheat: bool,
    /// Seed pushed layers at once
    ///
    /// Layers that are pushed through the proxy seed before any node pulls them.
    #[arg(long, help_heading = "Cluster")]
    pub(crate) seed_pushed: bool,
    /// Default registry for mirror requests [default: none]
    ///
    /// Example: https://registry.example
    #[arg(long, value_name = "URL", help_heading = "Registries")]
    pub(crate) registry: Option<Url>,
    /// Registry that mirror requests may name; repeatable
    ///
    /// Requests name it with ?ns=. HOST[:PORT] or *.DOMAIN, with http:// before it for a registry
    /// without TLS.
    ///
    /// Example: docker.io
    #[arg(long = "mirror-host", value_name = "HOST", help_heading = "Registries")]
    pub(crate) mirror_hosts: Vec<HostPattern>,
    /// HTTPS registry to intercept at CONNECT; repeatable
    ///
    /// Its layers then come from the swarm for engines that use HTTPS_PROXY as well. The engines
    /// have to trust DATA-DIR/ca.crt.
    ///
    /// Example: harbor.example
    #[arg(long, value_name = "HOST", help_heading = "Registries")]
    pub(crate) intercept: Vec<RegistryHost>,
    /// Where layers are kept
    #[arg(long, value_name = "DIR", default_value = DATA_DIR, help_heading = "Cache")]
    pub(crate) data_dir: PathBuf,
    /// Limit on what is sent to peers
    #[arg(long, value_name = "RATE", default_value_t, help_heading = "Limits")]
    pub(crate) upload_rate: Rate,
    /// Limit on what is received from peers
    #[arg(long, value_name = "RATE", default_value_t, help_heading = "Limits")]
    pub(crate) download_rate: Rate,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

impl Section for ProxyOptions {
    const NAME: &'static str = "proxy";
    const REPLACED: &'static [&'static str] = &["supernodes"];

    fn check_value(key: &str, text: &str) -> Result<(), String> {
        match key {
            "supernodes" => supernode_urls::parse(text).map(drop),
            "registry" if !is_registry(text) => {
                Err("expected a URL such as https://registry.example".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn derived(&self) -> Vec<(&'static str, String)> {
        vec![("node_name", host_name())]
    }
}

/// Whether a text is a URL with scheme and host and nothing else.
fn is_registry(text: &str) -> bool {
    text.contains("://") && text.parse::<RegistryOrigin>().is_ok()
}
