//! Runs what the command line asks for.

pub(crate) mod cache;
pub(crate) mod config;
pub(crate) mod get;
pub(crate) mod man;
pub(crate) mod preheat;
mod proxy;
mod service;
pub(crate) mod status;
mod supernode;
pub(crate) mod top;
pub(crate) mod torrent;

use std::io::Write as _;

use clap::CommandFactory as _;
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command};

/// Runs one command to its end.
pub(crate) async fn run(cli: Cli, shutdown: CancellationToken) -> anyhow::Result<()> {
    match cli.command {
        Command::Supernode(args) => supernode::run(*args, shutdown).await,
        Command::Proxy(args) => proxy::run(*args, shutdown).await,
        Command::Get(args) => get::run(*args, shutdown).await,
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
        Command::Config(command) => config::run(command),
        Command::Man(args) => man::run(&args, Cli::command()),
    }
}
