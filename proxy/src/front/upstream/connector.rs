//! Connections to servers: straight, or through the site's HTTP proxy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use flotilla_registry::egress::{Egress, Way};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::front::link_local::GuardedResolver;

/// Half of what engines give a mirror. To wait as long as dockerd waits for the registry itself
/// would be too long to find out that it is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to servers.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    tcp: HttpConnector<GuardedResolver>,
    egress: Egress,
}

/// When a connection was opened: whether it is a kept one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenedAt(pub(crate) Instant);

/// A connection.
pub(crate) struct Connecting {
    stream: TokioIo<TcpStream>,
    /// Requests name their server in full then (RFC 9112 section 3.2.2).
    at_proxy: bool,
    opened: OpenedAt,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Connector {
    pub(crate) fn new(egress: Egress) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(GuardedResolver(GaiResolver::new()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self { tcp, egress }
    }

    /// What a request for `target` has to say to the proxy that its connection leads to.
    pub(crate) fn way_of_request(&self, target: &Uri) -> Option<Way> {
        let is_plain = target.scheme() == Some(&Scheme::HTTP);
        self.egress.way_to(target).filter(|_| is_plain)
    }

    /// The proxy between here and `target`.
    pub(crate) fn way_to(&self, target: &Uri) -> Option<Way> {
        self.egress.way_to(target)
    }

    /// A connection to `target` itself, through the proxy at `way`.
    ///
    /// # Errors
    /// The proxy is out of reach, or refuses.
    pub(crate) async fn tunnel(&self, way: Way, target: Uri) -> Result<TcpStream, BoxError> {
        let mut tunnel = Tunnel::new(way.proxy, self.tcp.clone());
        if let Some(authorization) = way.authorization {
            tunnel = tunnel.with_auth(authorization);
        }
        Ok(tunnel.call(target).await?.into_inner())
    }

    async fn connect(mut self, target: Uri) -> Result<Connecting, BoxError> {
        let opened = OpenedAt(Instant::now());
        let (stream, at_proxy) = match self.egress.way_to(&target) {
            None => (self.tcp.call(target).await?, false),
            Some(way) if target.scheme() == Some(&Scheme::HTTPS) => {
                (TokioIo::new(self.tunnel(way, target).await?), false)
            }
            Some(way) => (self.tcp.call(way.proxy).await?, true),
        };
        Ok(Connecting {
            stream,
            at_proxy,
            opened,
        })
    }
}

impl Service<Uri> for Connector {
    type Response = Connecting;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Connecting, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        self.clone().connect(target).boxed()
    }
}

impl Connection for Connecting {
    fn connected(&self) -> Connected {
        let connected = self.stream.connected();
        connected.proxy(self.at_proxy).extra(self.opened)
    }
}

impl Read for Connecting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Connecting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }
}
