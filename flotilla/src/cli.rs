//! The command line.

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::commands::cache::CacheArgs;
use crate::commands::config::ConfigCommand;
use crate::commands::get::args::GetArgs;
use crate::commands::man::ManArgs;
use crate::commands::preheat::PreheatArgs;
use crate::commands::status::StatusArgs;
use crate::commands::top::TopArgs;
use crate::commands::torrent::TorrentCommand;
use crate::config::proxy::ProxyArgs;
use crate::config::supernode::SupernodeArgs;

macro_rules! getting_started {
    () => {
        "\
Getting started:
  flotilla supernode --listen 10.0.0.1:8001
      on one machine near the registry; it prints how nodes join
  FLOTILLA_JOIN_TOKEN=… flotilla proxy --supernode http://10.0.0.1:8001
      on every node; set HTTP_PROXY=http://127.0.0.1:65001 for the engine
  docker pull registry.example:5000/team/app:1.0"
    };
}

/// Delivers container images and large files to many machines at once
///
/// The registry sends each layer once, to a supernode. The machines share it among themselves from
/// there.
#[derive(Debug, Parser)]
#[command(version, after_help = getting_started!(), after_long_help = OVERVIEW, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const OVERVIEW: &str = concat!(
    getting_started!(),
    "

Environment:
  FLOTILLA_JOIN_TOKEN          the cluster's secret
  FLOTILLA_STATS_TOKEN         a supernode's read-only statistics token
  FLOTILLA_PREHEAT_AUTH        logins of Harbor and other preheat triggers
  FLOTILLA_LOG                 log filter, such as debug or flotilla_client=trace
  OTEL_EXPORTER_OTLP_ENDPOINT  OpenTelemetry collector for traces

Exit codes:
  0  done, or stopped by SIGTERM or SIGINT
  1  failed; stderr says what happened and what to do
  2  the command line or the configuration is wrong; stderr has every mistake
  Some commands have more; their --help lists them."
);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a supernode: it reads each layer once from the registry, and tracks the swarms
    Supernode(Box<SupernodeArgs>),
    /// Run a node's proxy for the container engines on this machine
    Proxy(Box<ProxyArgs>),
    /// Download files and directories through the swarm, or directly from their source
    Get(Box<GetArgs>),
    /// Have supernodes and nodes fetch images and files before they are needed
    Preheat(PreheatArgs),
    /// Print what supernodes, nodes and swarms are doing
    Status(StatusArgs),
    /// Watch supernodes, nodes and swarms live in this terminal
    Top(TopArgs),
    /// Make, show, verify and seed .torrent files
    #[command(subcommand)]
    Torrent(TorrentCommand),
    /// List, remove, verify and pin cached layers of this machine
    Cache(CacheArgs),
    /// Print the configuration in force, or check a configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages into a directory
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::commands::man::write_pages;

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

    /// The program and all of its commands, with their full names.
    fn commands() -> Vec<clap::Command> {
        fn add(command: &clap::Command, all: &mut Vec<clap::Command>) {
            all.push(command.clone());
            for sub in command
                .get_subcommands()
                .filter(|sub| sub.get_name() != "help")
            {
                add(sub, all);
            }
        }
        let mut root = Cli::command();
        root.build();
        let mut all = Vec::new();
        add(&root, &mut all);
        all
    }

    #[test]
    fn short_help_has_one_line_an_option() {
        for command in commands() {
            let help = command.clone().term_width(100).render_help().to_string();
            for line in help.lines() {
                let indent = line.len() - line.trim_start().len();
                assert!(indent < 10, "{}: {line}", command.get_name());
                assert!(
                    line.chars().count() <= 100,
                    "{}: {line}",
                    command.get_name()
                );
            }
        }
    }

    #[test]
    fn every_option_and_command_has_help_and_roles_group_theirs() {
        for command in commands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            let own = ["help", "version"];
            for arg in command
                .get_arguments()
                .filter(|a| !own.contains(&a.get_id().as_str()))
            {
                assert!(arg.get_help().is_some(), "{name} {}", arg.get_id());
                let is_grouped = arg.get_help_heading().is_some();
                let has_groups = ["supernode", "proxy", "get"].contains(&name);
                let is_apart = arg.get_id() == "default" || arg.is_positional();
                assert!(
                    is_grouped || !has_groups || is_apart,
                    "{name} {}",
                    arg.get_id()
                );
            }
        }
    }

    /// Prose is wrapped by the terminal alone: a paragraph is one line of the text.
    #[test]
    fn no_prose_is_wrapped_in_the_source() {
        let is_prose =
            |line: &str| !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':');
        for command in commands() {
            let texts = [
                command.get_after_help(),
                command.get_after_long_help(),
                command.get_long_about(),
            ];
            for text in texts.into_iter().flatten() {
                let text = text.to_string();
                let lines: Vec<_> = text.lines().collect();
                let wrapped = lines
                    .windows(2)
                    .find(|pair| pair.iter().all(|line| is_prose(line)));
                assert_eq!(wrapped, None, "{}", command.get_name());
            }
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

    #[test]
    fn every_command_has_a_manual_page_with_its_options() {
        let dir = tempfile::tempdir().unwrap();
        let pages = dir.path().join("man1");
        write_pages(Cli::command(), &pages).unwrap();
        let page = |name: &str| {
            let text = std::fs::read_to_string(pages.join(format!("{name}.1")));
            text.unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let mut root = Cli::command();
        root.build();
        let mut waiting = vec![(root.clone(), "flotilla".to_owned())];
        while let Some((command, name)) = waiting.pop() {
            let text = page(&name);
            assert!(text.contains(".TH "), "{name}");
            for arg in command.get_arguments().filter_map(clap::Arg::get_long) {
                let flag = format!("\\-\\-{}", arg.replace('-', "\\-"));
                assert!(text.contains(&flag), "{name}: {flag}");
            }
            for sub in command
                .get_subcommands()
                .filter(|sub| sub.get_name() != "help")
            {
                waiting.push((sub.clone(), format!("{name}-{}", sub.get_name())));
            }
        }
        assert!(page("flotilla-get").contains("resume an interrupted download"));
    }
}
