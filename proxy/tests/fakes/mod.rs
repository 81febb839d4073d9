//! What stands around the proxy in its tests: a registry, a swarm, and clients that write and
//! read exact bytes.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

pub mod origin;
pub mod raw_client;
pub mod registry;
pub mod swarm;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flotilla_proxy::{LayerSource, Proxy, ProxyConfig, ProxyStats};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Fails a test that hangs.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A running proxy; it stops when this is dropped.
pub struct RunningProxy {
    pub addr: SocketAddr,
    pub stats: Arc<ProxyStats>,
    pub shutdown: CancellationToken,
    pub served: JoinHandle<anyhow::Result<()>>,
    _guard: DropGuard,
}

pub async fn proxy(config: ProxyConfig, source: impl LayerSource) -> RunningProxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    // Fails from the second test on: it is installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let proxy = Proxy::new(&config, source).unwrap();
    let stats = proxy.stats();
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(proxy.serve(listener, shutdown.clone()));
    RunningProxy {
        addr,
        stats,
        _guard: shutdown.clone().drop_guard(),
        shutdown,
        served,
    }
}

/// A proxy without swarm.
pub async fn plain_proxy() -> RunningProxy {
    proxy(ProxyConfig::default(), swarm::FakeSwarm::absent()).await
}

/// The mirror of one registry.
pub fn mirror_of(addr: SocketAddr) -> ProxyConfig {
    ProxyConfig {
        registry: Some(format!("http://{addr}").parse().unwrap()),
        ..ProxyConfig::default()
    }
}

/// Bytes without a period that pieces or buffers could hide.
pub fn patterned(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .collect()
}
