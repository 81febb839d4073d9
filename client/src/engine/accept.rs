//! Peers that connect to this host.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flotilla_torrents::{InfoHash, PeerId};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::engine::host::Host;
use crate::engine::input::Input;
use crate::engine::running_swarm::RunningSwarm;
use crate::engine::swarms::Swarms;
use crate::peers::connection as peer_connection;
use crate::peers::connection::HandshakeError;
use crate::peers::open_torrent::OpenTorrent;

/// Incoming connections in their handshakes at the same moment.
const MAX_HANDSHAKES: usize = 256;

/// Accepts peers until `shutdown`.
pub(super) async fn accept_peers(
    host: Arc<Host>,
    swarms: Arc<Mutex<Swarms>>,
    listener: TcpListener,
    shutdown: CancellationToken,
) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                let (host, swarms) = (Arc::clone(&host), Arc::clone(&swarms));
                tokio::spawn(async move {
                    if let Err(error) = accept_peer(&host, &swarms, stream, remote).await {
                        tracing::debug!(peer.addr = %remote, %error, "peer refused");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to come back.
                tracing::warn!(%error, "connection of a peer not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn accept_peer(
    host: &Host,
    swarms: &Mutex<Swarms>,
    stream: TcpStream,
    remote: SocketAddr,
) -> Result<(), HandshakeError> {
    let identify = async |swarm: InfoHash, peer: PeerId| {
        if host.bans.is_shunned(peer) {
            return Err(HandshakeError::Shunned(peer));
        }
        let (handle, torrent) = named(swarms, swarm)?;
        Ok(host.local_identity(&handle, torrent.as_ref()))
    };
    let (connection, swarm) = peer_connection::accept(stream, remote, identify).await?;
    let (handle, _) = named(swarms, swarm)?;
    handle.send(Input::Connected(Box::new(connection))).await;
    Ok(())
}

fn named(
    swarms: &Mutex<Swarms>,
    name: InfoHash,
) -> Result<(RunningSwarm, Option<Arc<OpenTorrent>>), HandshakeError> {
    let named = swarms.lock().named(&name);
    named.ok_or(HandshakeError::UnknownSwarm(name))
}
