//! What both roles do as services: listen, say when they are ready, end in time.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::otlp::Traces;

/// Time that running requests have to end after the first signal.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn finish(traces: Option<Traces>) {
    if let Some(traces) = traces {
        traces.finish().await;
    }
}

/// A directory that can be written, or an error before anything starts.
pub(super) fn prepare_data_dir(dir: &Path) -> anyhow::Result<()> {
    let usable = std::fs::create_dir_all(dir).and_then(|()| {
        let probe = dir.join(".writable");
        std::fs::write(&probe, b"")?;
        std::fs::remove_file(&probe)
    });
    usable.with_context(|| {
        format!(
            "cannot write to data directory {}; choose another with --data-dir",
            dir.display()
        )
    })
}

pub(super) async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot listen on {address}; choose another address with {flag}"))
}

pub(super) async fn bind_udp(address: SocketAddr) -> anyhow::Result<UdpSocket> {
    let bound = UdpSocket::bind(address).await;
    bound.with_context(|| {
        format!("cannot listen on UDP {address} for the tracker; choose another address with --udp-tracker")
    })
}

pub(super) fn ready(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Runs `serving`, and no longer than the grace period after `shutdown`.
pub(super) async fn within_grace(
    serving: impl Future<Output = anyhow::Result<()>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        served = serving => served,
        () = overdue => Ok(()),
    }
}
