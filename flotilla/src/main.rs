//! `flotilla`: delivers container images and large files to many machines at once.

// Doc comments of options are help texts: brackets mean what may be left out, and URLs stand bare.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::bare_urls)]

mod cli;
mod commands;
mod config;
mod host_name;
mod logging;
mod otlp;
mod role;
mod sanitize;

use std::process::ExitCode;

use clap::Parser as _;
use rustix::process::{Resource, Rlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{Cli, Command};
use crate::commands::get::GetFailed;
use crate::config::ConfigErrors;

/// musl's own allocator has one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    // Blocking reads whose result is not needed any more do not delay the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(ConfigErrors(mistakes)) = error.downcast_ref() {
                for mistake in mistakes {
                    eprintln!("flotilla: error: {mistake}");
                }
                return ExitCode::from(USAGE);
            }
            eprintln!("flotilla: error: {error:#}");
            let failed = error.downcast_ref::<GetFailed>();
            failed.map_or(ExitCode::FAILURE, |failed| ExitCode::from(failed.code))
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

/// Starts logging; roles do it themselves, as their configuration says where traces go.
fn start_logging(cli: &Cli) {
    match cli.command {
        Command::Supernode(_) | Command::Proxy(_) => {}
        // Log lines would disturb the picture, which shows what is wrong.
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
