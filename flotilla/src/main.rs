//! `flotilla`: delivers container images and large files to many machines at once.

mod cache_command;
mod cli;
mod commands;
mod config;
mod dragonfly_conf;
mod get_args;
mod get_command;
mod get_list;
mod get_progress;
mod join_token;
mod logging;
mod preheat_auth;
mod preheat_command;
mod shown;
mod status_command;
mod top_command;
mod torrent_command;
mod torrent_seed;
mod traces;
mod units;

use std::process::ExitCode;

use clap::Parser as _;
use rustix::process::{Resource, Rlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command};

/// musl's own has one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
use crate::config::ConfigErrors;
use crate::get_command::GetFailed;

/// The command line or the configuration is wrong; clap uses the same.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(&cli);
    raise_file_limit();
    // Only fails when a provider was installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("flotilla: error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(cancel_on_signal(shutdown.clone()));
        commands::run(cli, shutdown).await
    });
    // Blocking reads that nobody waits for any more do not hold the exit up.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flotilla: error: {error:#}");
            if error.is::<ConfigErrors>() {
                ExitCode::from(USAGE)
            } else if let Some(failed) = error.downcast_ref::<GetFailed>() {
                ExitCode::from(failed.code)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

async fn cancel_on_signal(shutdown: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.cancel();
}

/// Roles start logging themselves: their configuration says where traces go.
fn start_logging(cli: &Cli) {
    match cli.command {
        Command::Supernode(_) | Command::Proxy(_) => {}
        // The terminal is a picture; what is wrong is said in it.
        Command::Top(_) => logging::start("off", None),
        _ => logging::start("error", None),
    }
}

/// Every peer and every reader is a file descriptor; the usual 1024 is a shell's limit.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "file descriptor limit not raised");
    }
}
