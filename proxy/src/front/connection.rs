//! The connection of one client, and its requests one after the other.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;

use crate::front::dispatch::Dispatch;
use crate::front::http_limits::{MAX_HEAD_BYTES, MAX_HEADERS};
use crate::front::idle::Activity;
use crate::front::target::Entrance;
use crate::marks::{Mark, set_mark};

/// An idle or half-written request head; engines keep connections for minutes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Without a byte to or from the client, also while it waits or does not read. Longer than all that
/// has a limit and an answer of its own: this one just closes.
const CONNECTION_IDLE_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// The right to be served, of which there are limited numbers; shared by a connection and its tunnel.
#[derive(Clone, Debug)]
pub(crate) struct Permit(
    #[expect(dead_code, reason = "given back on drop")] Arc<OwnedSemaphorePermit>,
);

impl Permit {
    pub(crate) fn of(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(permit))
    }
}

/// Answers one client until it leaves; once the proxy is draining only what it has asked
/// already. A client that closes its side has left: no engine waits for an answer then, and a
/// registry that never gives one would hold the connection.
pub(crate) async fn serve_client<S>(
    dispatch: Arc<Dispatch>,
    stream: S,
    entrance: Entrance,
    client: SocketAddr,
    permit: Permit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let draining = dispatch.draining.clone();
    let stats = Arc::clone(&dispatch.layers.stats);
    let service = service_fn(move |request| {
        let (dispatch, entrance) = (Arc::clone(&dispatch), entrance.clone());
        let permit = permit.clone();
        async move {
            let answer = dispatch.answer(request, &entrance, client, &permit);
            // Too large to be moved about.
            Ok::<_, Infallible>(Box::pin(answer).await)
        }
    });
    let activity = Activity::new();
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(activity.of_stream(stream)), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let serving = async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    match activity.limit(CONNECTION_IDLE_TIMEOUT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => match mark_of(&error) {
            Some(mark) => set_mark!(stats, mark, client.addr = %client, reason = %error),
            None => tracing::debug!(client.addr = %client, %error, "connection ended"),
        },
        Err(idle) => {
            set_mark!(stats, Mark::ConnectionIdle, client.addr = %client, reason = %idle);
        }
    }
}

/// None for clients that leave.
fn mark_of(error: &hyper::Error) -> Option<Mark> {
    if error.is_parse_too_large() {
        Some(Mark::HeadTooLarge)
    } else if error.is_parse() {
        Some(Mark::RequestMalformed)
    } else {
        error.is_timeout().then_some(Mark::ConnectionIdle)
    }
}
