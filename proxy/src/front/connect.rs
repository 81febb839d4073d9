//! `CONNECT`: an opaque tunnel, RFC 9110 section 9.3.6.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{Request, StatusCode, Uri};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::front::idle::Activity;
use crate::front::link_local::{LinkLocal, check_literal, is_link_local};
use crate::front::upstream::connector::Connector;
use crate::marks::{Mark, set_mark};
use crate::oci_error::Refusal;
use crate::stats::ProxyStats;

/// For the name and all its addresses.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// For one address, so that the next one gets its turn.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(4);
/// Without a byte in either direction. The protocol inside is not known here, nor how long it
/// pauses; an hour is more than connections survive in most NATs.
const TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const BUFFER: usize = 64 * 1024;

/// A tunnel cannot be opened.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(transparent)]
    LinkLocal(LinkLocal),
    #[error("{0} does not answer in time")]
    TimedOut(String),
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, io::Error),
}

impl From<DialError> for Refusal {
    fn from(error: DialError) -> Self {
        let (mark, status, code) = match error {
            DialError::LinkLocal(_) => (Mark::LinkLocalRefused, StatusCode::FORBIDDEN, "DENIED"),
            DialError::TimedOut(_) => (
                Mark::ServerTimedOut,
                StatusCode::GATEWAY_TIMEOUT,
                "UNAVAILABLE",
            ),
            DialError::Unreachable(..) => (
                Mark::ServerUnreachable,
                StatusCode::BAD_GATEWAY,
                "UNAVAILABLE",
            ),
        };
        Self::new(mark, status, code, error.to_string())
    }
}

/// Connects to the server at the far end.
///
/// # Errors
/// The answer to give: refused, out of reach, or silent.
pub(crate) async fn dial(target: &Authority, by: &Connector) -> Result<TcpStream, Refusal> {
    let dialled = tokio::time::timeout(DIAL_TIMEOUT, connect(target, by)).await;
    let dialled = dialled.unwrap_or_else(|_| Err(DialError::TimedOut(target.to_string())));
    dialled.map_err(Refusal::from)
}

/// Copies both ways until both sides have ended. A side that ends first leaves the other
/// direction open; when both are silent for an hour the tunnel ends.
pub(crate) async fn tunnel(
    request: Request<Incoming>,
    mut server: TcpStream,
    stats: Arc<ProxyStats>,
) {
    let client = match hyper::upgrade::on(request).await {
        Ok(client) => client,
        Err(error) => return tracing::debug!(%error, "client left before its tunnel was open"),
    };
    let activity = Activity::new();
    // What the server says or hears passes here too.
    let mut client = activity.of_stream(TokioIo::new(client));
    let copying =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER);
    match activity.limit(TUNNEL_IDLE_TIMEOUT, copying).await {
        Ok(Ok((sent, received))) => tracing::debug!(sent, received, "tunnel closed"),
        Ok(Err(error)) => tracing::debug!(%error, "tunnel broke"),
        Err(idle) => set_mark!(stats, Mark::TunnelIdle, reason = %idle),
    }
}

async fn connect(target: &Authority, by: &Connector) -> Result<TcpStream, DialError> {
    if let Ok(uri) = Uri::try_from(format!("https://{target}/"))
        && let Some(way) = by.way_to(&uri)
    {
        check_literal(target.host()).map_err(DialError::LinkLocal)?;
        let tunnel = by.tunnel(way, uri).await;
        let failed = |error| DialError::Unreachable(target.to_string(), io::Error::other(error));
        return tunnel.map_err(failed);
    }
    let unreachable = |error| DialError::Unreachable(target.to_string(), error);
    let host = target.host().trim_start_matches('[').trim_end_matches(']');
    let port = target.port_u16().unwrap_or(443);
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
        .await
        .map_err(unreachable)?
        .collect();
    let mut last =
        DialError::Unreachable(target.to_string(), io::Error::other("it has no address"));
    for address in addresses {
        last = if is_link_local(address.ip()) {
            DialError::LinkLocal(LinkLocal(address.to_string()))
        } else {
            match tokio::time::timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(server)) => {
                    server.set_nodelay(true).map_err(unreachable)?;
                    return Ok(server);
                }
                Ok(Err(error)) => unreachable(error),
                Err(_) => DialError::TimedOut(target.to_string()),
            }
        };
    }
    Err(last)
}
