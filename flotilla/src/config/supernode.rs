//! `[supernode]`: the options of `flotilla supernode`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use flotilla_registry::names::registry_origin::RegistryOrigin;
use flotilla_seeder::{NodeSelector, OpenRepository, Platform};
use url::Url;

use super::common::CommonOptions;
use super::given::Given;
use super::registries::RegistryOptions;
use super::section::Section;
use super::units::Rate;

/// Loopback: a supernode listens for other machines only when it is configured to.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8001);
/// Not the proxy's: both roles may run on one host, and a data directory has one owner.
const DATA_DIR: &str = "/var/lib/flotilla/supernode";
/// A supernode's port for pieces is its API port plus this: two on one host do not collide.
const PEER_PORT_DISTANCE: u16 = 1000;

macro_rules! examples {
    () => {
        "\
Examples:
  flotilla supernode --listen 10.0.0.1:8001
  flotilla supernode --data-dir ./data --registry-rate 100MB/s
  flotilla supernode --listen 10.0.0.1:8001 --open-repository registry.example/public/*"
    };
}

const DETAILS: &str = concat!(
    examples!(),
    "

A flag wins over the environment, the environment over the configuration file, and the file over \
the default. Repeatable flags add to the lists of the file. `flotilla config show supernode` prints \
the result."
);

/// The arguments of `flotilla supernode`.
#[derive(Debug, Args)]
#[command(after_help = examples!(), after_long_help = DETAILS)]
pub(crate) struct SupernodeArgs {
    #[command(flatten)]
    pub(crate) options: Given<SupernodeOptions>,
    #[command(flatten)]
    pub(crate) registries: Given<RegistryOptions>,
    /// Configuration file [default: /etc/flotilla/flotilla.toml]
    ///
    /// The default file need not exist.
    #[arg(long, value_name = "FILE", help_heading = "Configuration")]
    pub(crate) config: Option<PathBuf>,
}

/// Options of `[supernode]`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SupernodeOptions {
    /// Address of API, page and tracker
    ///
    /// Nodes, BitTorrent clients, browsers and Prometheus connect here. On a loopback address the
    /// cluster needs no join token.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = LISTEN, help_heading = "Addresses")]
    pub(crate) listen: SocketAddr,
    /// Address for pieces [default: --listen, port + 1000]
    ///
    /// BitTorrent over TCP.
    ///
    /// Example: 10.0.0.1:9001
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Addresses")]
    pub(crate) peer_listen: Option<SocketAddr>,
    /// Address of the UDP tracker [default: --listen]
    ///
    /// BEP 15, for stock BitTorrent clients.
    ///
    /// Example: 10.0.0.1:8001
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Addresses")]
    pub(crate) udp_tracker: Option<SocketAddr>,
    /// Where layers are kept
    #[arg(long, value_name = "DIR", default_value = DATA_DIR, help_heading = "Cache")]
    pub(crate) data_dir: PathBuf,
    /// Limit on what is sent to peers
    #[arg(long, value_name = "RATE", default_value_t, help_heading = "Limits")]
    pub(crate) upload_rate: Rate,
    /// Limit on what is read from registries
    #[arg(long, value_name = "RATE", default_value_t, help_heading = "Limits")]
    pub(crate) registry_rate: Rate,
    /// Registry that shares swarms with the others; repeatable
    ///
    /// A layer that several of these registries have is one swarm, and on the disk once. Each
    /// caller is still authorized at the registry of its own request. A registry below a path of
    /// its host is written https://HOST/PATH/v2/.
    ///
    /// Example: https://registry.example
    #[arg(
        long = "shared-registry",
        value_name = "URL",
        help_heading = "Registries"
    )]
    pub(crate) shared_registries: Vec<Url>,
    /// File with the supernode's own logins [default: none]
    ///
    /// Docker's config.json or podman's auth.json. For preheating, and to finish layers whose callers' tokens have
    /// expired. It is read again when it changes. Images may be preheated from the registries in it.
    ///
    /// Example: /etc/flotilla/auth.json
    #[arg(long, value_name = "FILE", help_heading = "Registries")]
    pub(crate) registry_auth: Option<PathBuf>,
    /// Public repository, for any BitTorrent client; repeatable
    ///
    /// Its layers need no login. Their torrents are at http://LISTEN/torrents/DIGEST.torrent. With /* at
    /// the end: all repositories below that name.
    ///
    /// Example: registry.example/public/*
    #[arg(
        long = "open-repository",
        value_name = "HOST/REPOSITORY",
        help_heading = "Registries"
    )]
    pub(crate) open_repositories: Vec<OpenRepository>,
    /// Registry that images are preheated from; repeatable
    ///
    /// Besides the registries of --registry-auth. http:// before the name is for a registry
    /// without TLS.
    ///
    /// Example: registry.example:5000
    #[arg(
        long = "preheat-registry",
        value_name = "HOST",
        help_heading = "Preheating"
    )]
    pub(crate) preheat_registries: Vec<RegistryOrigin>,
    /// Logins for Harbor and other preheat triggers [default: none]
    ///
    /// A login a line: bearer TOKEN, basic USER:PASSWORD, harbor-basic USER:PASSWORD,
    /// header NAME: VALUE, or none. See docs/harbor.md.
    ///
    /// Environment: FLOTILLA_PREHEAT_AUTH holds the lines themselves.
    ///
    /// Example: /etc/flotilla/preheat-auth
    #[arg(long, value_name = "FILE", help_heading = "Preheating")]
    pub(crate) preheat_auth: Option<PathBuf>,
    /// Platform for triggered preheats; repeatable [default: all]
    ///
    /// Of images with several platforms, only these are fetched.
    ///
    /// Example: linux/amd64
    #[arg(
        long = "preheat-platform",
        value_name = "OS/ARCH",
        help_heading = "Preheating"
    )]
    pub(crate) preheat_platforms: Vec<Platform>,
    /// Nodes for triggered preheats [default: none]
    ///
    /// These nodes fetch the layers as well as the supernode. A trigger that
    /// names nodes itself overrides it.
    ///
    /// Example: web-*
    #[arg(long, value_name = "GLOB", help_heading = "Preheating")]
    pub(crate) preheat_nodes: Option<NodeSelector>,
    /// File with the read-only statistics token [default: none]
    ///
    /// With it other machines may read the page, /api/v1 and /metrics, and do nothing else. The join
    /// token works too. Requests from this machine need no token.
    ///
    /// Environment: FLOTILLA_STATS_TOKEN holds the token itself.
    ///
    /// Example: /etc/flotilla/stats-token
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    pub(crate) stats_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: CommonOptions,
}

impl SupernodeOptions {
    /// Where pieces are served.
    pub(crate) fn peer_address(&self) -> SocketAddr {
        let mut default = self.listen;
        // Port 0 asks for any port, and so does its companion.
        if self.listen.port() != 0 {
            default.set_port(self.listen.port().saturating_add(PEER_PORT_DISTANCE));
        }
        self.peer_listen.unwrap_or(default)
    }
}

impl Section for SupernodeOptions {
    const NAME: &'static str = "supernode";

    fn derived(&self) -> Vec<(&'static str, String)> {
        vec![
            ("peer_listen", self.peer_address().to_string()),
            ("udp_tracker", self.listen.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;
    use crate::config::section::parser_of;

    #[test]
    fn two_supernodes_on_one_host_do_not_share_a_peer_port() {
        let at = |address: &str| {
            let matches = parser_of::<SupernodeOptions>()
                .try_get_matches_from(["--listen", address])
                .unwrap();
            let options = SupernodeOptions::from_arg_matches(&matches).unwrap();
            options.peer_address().port()
        };
        assert_eq!(at("127.0.0.1:8001"), 9001);
        assert_eq!(at("127.0.0.1:8002"), 9002);
        assert_eq!(at("127.0.0.1:0"), 0);
    }
}
