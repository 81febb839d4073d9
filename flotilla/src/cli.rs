//! The command line.

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::commands::cache::CacheArgs;
use crate::commands::get::args::GetArgs;
use crate::commands::preheat::PreheatArgs;
use crate::commands::status::StatusArgs;
use crate::commands::top::TopArgs;
use crate::commands::torrent::TorrentCommand;
use crate::config::args::{ProxyArgs, SupernodeArgs};
use crate::role::Role;

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
