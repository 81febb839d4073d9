//! A supernode on free ports of this machine.

use flotilla_seeder::{Supernode, SupernodeConfig};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Starts it; where its API is, and its task.
pub(crate) async fn serve(
    config: &SupernodeConfig,
    stop: CancellationToken,
) -> (Url, JoinHandle<anyhow::Result<()>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peers = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", api.local_addr().unwrap());
    let supernode = Supernode::start(config, api, peers, stop).unwrap();
    (url.parse().unwrap(), tokio::spawn(supernode.serve()))
}
