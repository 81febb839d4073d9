//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use flotilla_seeder::open_repository::OpenRepository;
use flotilla_seeder::registry_host::RegistryHost;
use flotilla_seeder::registry_login::OwnRegistry;
use flotilla_seeder::registry_tls::ClientCertificate;
use flotilla_seeder::registry_token::TokenCertificate;
use url::Url;

use crate::commands::cache::CacheArgs;
use crate::commands::get::args::GetArgs;
use crate::commands::torrent::TorrentCommand;
use crate::config::units::{ByteCount, Rate, Time};
use crate::otlp::TraceArgs;

/// Delivers container images and large files to many machines at once.
///
/// The registry sends each layer once, to a supernode; the machines give each other the
/// rest.
#[derive(Debug, Parser)]
#[command(version, after_help = OVERVIEW, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const OVERVIEW: &str = "\
Getting started:
  flotilla supernode --listen 10.0.0.1:8001
      on one machine near the registry; prints how nodes join
  FLOTILLA_JOIN_TOKEN=… flotilla proxy --listen 127.0.0.1:65001 --peer-listen 0.0.0.0:65002 \\
      --supernode http://10.0.0.1:8001
      on every node; give the container engine HTTP_PROXY=http://127.0.0.1:65001
  docker pull registry.example:5000/team/app:1.0

Environment:
  FLOTILLA_JOIN_TOKEN   the cluster's secret
  FLOTILLA_PREHEAT_AUTH what Harbor shows a supernode, see supernode --help
  FLOTILLA_STATS_TOKEN  a supernode's secret for those who only look
  FLOTILLA_LOG          what is logged to stderr, e.g. debug or flotilla_client=trace

Exit codes:
  0  done, or stopped by SIGTERM or SIGINT
  1  failed; one line on stderr says what and what to do
  2  the command line or the configuration is wrong
  Others are a command's own; its --help names them.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a supernode: tracker, and seeder that reads each layer once from the registry
    Supernode(SupernodeArgs),
    /// Run a node's proxy: what the container engines on this machine talk to
    Proxy(ProxyArgs),
    /// Get files and directories through the swarm, or straight from their source
    Get(GetArgs),
    /// Have supernodes fetch the layers of images, and files, before anybody pulls them
    Preheat(PreheatArgs),
    /// Print what supernodes, their nodes and swarms are doing
    Status(StatusArgs),
    /// Watch what supernodes, their nodes and swarms are doing, live in this terminal
    Top(TopArgs),
    /// Make, show, verify and seed .torrent files
    #[command(subcommand)]
    Torrent(TorrentCommand),
    /// List, remove, verify and pin what a node or supernode holds
    Cache(CacheArgs),
    /// Print a shell's completion script
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the default configuration of a role, as TOML
    Config {
        /// The role
        role: Role,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    Supernode,
    Proxy,
}

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

const PREHEAT_EXAMPLES: &str = "\
Examples:
  flotilla preheat registry.example:5000/team/app:1.0 --supernode http://10.0.0.1:8001 --wait
  flotilla preheat registry.example/team/app:1.0 --supernode http://10.0.0.1:8001 --nodes 'web-*'
  flotilla preheat registry.example/team/app:1.0 registry.example/team/db:7 \\
      --supernode http://a:8001,http://b:8001 --platform linux/amd64
  flotilla preheat https://files.example/model.bin --supernode http://10.0.0.1:8001 --nodes '*' --wait

The supernodes log in with the file that they were given with --registry-auth, and know the
registry by it or by --preheat-registry. Name all of a cluster's supernodes, as the proxies do.

A URL that is no manifest's names a file, as in flotilla get URL. Its server has to be listed like a
registry (--preheat-registry http://files.example:8080), and to give it without a login, with its
length and an ETag or Last-Modified.";

#[derive(Debug, Args)]
#[command(after_help = PREHEAT_EXAMPLES)]
pub(crate) struct PreheatArgs {
    /// Images, HOST[:PORT]/REPOSITORY[:TAG][@DIGEST] or the URLs of their manifests, and URLs of files
    #[arg(required = true, value_name = "IMAGE|URL")]
    pub(crate) images: Vec<String>,
    /// The supernodes, separated by commas
    #[arg(long, value_name = "URL", value_delimiter = ',', required = true)]
    pub(crate) supernode: Vec<String>,
    /// Only for this platform; repeatable [default: all that the images have]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Vec<String>,
    /// File with the cluster's secret (or set FLOTILLA_JOIN_TOKEN)
    #[arg(long, value_name = "FILE")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// Have these nodes fetch the layers as well, a glob of their names [default: supernodes only]
    #[arg(long, value_name = "GLOB")]
    pub(crate) nodes: Option<String>,
    /// Query parameters that do not name a file, such as signatures, separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) filter_query: Vec<String>,
    /// Wait until every layer is where it should be, and fail if it is not
    #[arg(long)]
    pub(crate) wait: bool,
    /// No lines of what becomes of it
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

const STATUS_EXAMPLES: &str = "\
Examples:
  flotilla status
  flotilla status --supernode http://10.0.0.1:8001 --stats-token-file stats-token

The same live, with each swarm and node: `flotilla top`, or open the supernode's address in a browser.";

#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusArgs {
    /// The supernodes, separated by commas [default: those of this machine's configuration]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) supernode: Vec<String>,
    /// File with the supernode's statistics token (or set FLOTILLA_STATS_TOKEN); without one the
    /// join token is shown
    #[arg(long, value_name = "FILE")]
    pub(crate) stats_token_file: Option<PathBuf>,
}

const TOP_EXAMPLES: &str = "\
Examples:
  flotilla top
  flotilla top --supernode http://10.0.0.1:8001,http://10.0.0.2:8001 --stats-token-file stats-token

Keys:
  1, 2, Tab          swarms, nodes, the other of both
  n                  the next supernode; the first is shown first
  Up, Down           the row before, after; PageUp, PageDown: the page; Home, End: the first, last page
  s, r               sort by the next column, the other way round
  /                  search names, digests, addresses; Enter keeps the search, Esc ends it
  q, Esc, Ctrl-C     quit";

#[derive(Debug, Args)]
#[command(after_help = TOP_EXAMPLES)]
pub(crate) struct TopArgs {
    /// The supernodes, separated by commas: one is shown, the key n turns to the next
    /// [default: those of this machine's configuration]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) supernode: Vec<String>,
    /// File with the supernode's statistics token (or set FLOTILLA_STATS_TOKEN); without one the
    /// join token is shown
    #[arg(long, value_name = "FILE")]
    pub(crate) stats_token_file: Option<PathBuf>,
    /// Time between two questions, from 500ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub(crate) interval: Time,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_invocations_parse() {
        for line in [
            "flotilla supernode --listen 10.0.0.1:8001 --data-dir d --peer-listen 10.0.0.1:9001 --config f",
            "flotilla proxy --listen 127.0.0.1:65001 --peer-listen 10.0.0.2:65002 --supernode http://a:8001,http://b:8001 --data-dir d --registry http://r:5000 --config f",
            "flotilla get http://h/f -o f --supernode http://a:8001 --header K:V --header K2:V2 --download-rate 20MB/s --upload-rate 20MB/s --seed-for 30s --data-dir d",
            "flotilla get http://h/f",
            "flotilla get http://h/f http://h/g -P d -j 8 -O --user u:p --no-netrc -k --cacert f --retries 0 --no-swarm",
            "flotilla get -i - --netrc-file f --min-rate 1MB/s --timeout 5m --connect-timeout 3s --json --quiet",
            "flotilla get http://h/f --range -500 --filter-query sig,exp --seed-ratio 1.5 --no-fallback --digest md5:900150983cd24fb0d6963f7d28e17f72",
            "flotilla get -r http://h/d/ --include *.iso --exclude tmp --max-depth 2",
            "flotilla supernode --stats-token-file f",
            "flotilla proxy --metrics-listen 127.0.0.1:65003",
            "flotilla proxy --otlp-endpoint http://127.0.0.1:4318 --trace-ratio 0.25",
            "flotilla supernode --otlp-endpoint https://collector.example/otlp --trace-ratio 0",
            "flotilla supernode --registry-auth f --preheat-registry reg.test --preheat-registry http://reg.test:5000",
            "flotilla supernode --preheat-auth f --preheat-platform linux/amd64 --preheat-nodes web-*",
            "flotilla preheat reg.test:5000/a/b:1 reg.test/c --supernode http://a:8001,http://b:8001 --platform linux/amd64 --platform linux/arm64/v8 --join-token-file f --nodes web-* --wait --quiet",
            "flotilla status --supernode http://a:8001 --stats-token-file f",
            "flotilla top --supernode http://a:8001,http://b:8001 --stats-token-file f --interval 2s",
            "flotilla torrent create d -o d.torrent --tracker http://a/announce --tracker udp://b:1,udp://c:1 --web-seed http://w/ --private --piece-length 4MiB --comment c --force",
            "flotilla torrent show d.torrent --json",
            "flotilla torrent verify d.torrent d",
            "flotilla cache ls --role supernode --json",
            "flotilla cache rm --data-dir d sha256:0123 4567",
            "flotilla cache rm --all",
            "flotilla cache rm --older-than 7d",
            "flotilla cache verify",
            "flotilla cache pin sha256:0123 --data-dir d",
            "flotilla cache unpin sha256:0123",
            "flotilla torrent seed d.torrent d --peer-listen 10.0.0.1:6881 --upload-rate 20MB/s --tracker http://a/announce --peer 10.0.0.2:6881",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn a_bad_value_is_named_with_its_flag() {
        let line = "flotilla get http://h/f -o f --supernode http://a:8001 --upload-rate fast";
        let error = Cli::try_parse_from(line.split(' '))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--upload-rate") && error.contains("fast"),
            "{error}"
        );
    }
}
