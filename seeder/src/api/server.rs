//! The listener of the cluster's API.
//!
//! Members keep many connections open: each swarm that a node takes part in has an event stream.
//! Strangers reach the same port and could hold as many. So there are only so many connections that
//! have not shown the join token, and a new one takes the place of the oldest: who floods the port
//! closes his own connections, and a member shows the token with his first request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A request head that is not complete by then, or a connection that rests for so long. Nodes
/// close a connection that they do not need after 90 seconds, before this.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
const MAX_STRANGERS: usize = 512;
/// Time that running answers have to end when the supernode stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// After an accept that failed, most likely for want of file descriptors.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Serves a router, within limits.
#[derive(Debug)]
pub(crate) struct ApiServer {
    listener: TcpListener,
    router: Router,
    head_timeout: Duration,
    strangers: Strangers,
}

impl ApiServer {
    pub(crate) fn new(listener: TcpListener, router: Router) -> Self {
        Self {
            listener,
            router,
            head_timeout: HEAD_TIMEOUT,
            strangers: Strangers::new(MAX_STRANGERS),
        }
    }

    /// Serves until `shutdown`, then lets running answers end within a grace period.
    pub(crate) async fn serve(self, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        let closed = CancellationToken::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => {
                    let visit = self.strangers.enter();
                    let ended = visit.pushed_out.clone();
                    let connection = self.connection(stream, remote, visit, shutdown.clone());
                    let closed = closed.clone();
                    connections.spawn(async move {
                        tokio::select! {
                            () = connection => {}
                            () = ended.cancelled() => {
                                tracing::debug!(client.addr = %remote, "connection closed in favour of newer ones");
                            }
                            () = closed.cancelled() => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
                }
            }
        }
        drop(self.listener);
        connections.close();
        // Event streams go on for as long as their swarms do: they are cut.
        if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait())
            .await
            .is_err()
        {
            closed.cancel();
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        visit: Arc<Visit>,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        // An answer in two parts would wait for the acknowledgement of the first: 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY not set");
        }
        let router = TowerToHyperService::new(self.router.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(remote));
            extensions.insert(Arc::clone(&visit));
            router.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .serve_connection(TokioIo::new(stream), service);
        async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(client.addr = %remote, %error, "connection ended");
            }
        }
    }
}

/// The connections that have not shown the join token.
#[derive(Clone, Debug)]
struct Strangers {
    most: usize,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In the order of their coming.
    connections: BTreeMap<u64, CancellationToken>,
    next: u64,
}

/// One connection; in the extensions of its requests.
#[derive(Debug)]
pub(crate) struct Visit {
    number: u64,
    pushed_out: CancellationToken,
    strangers: Strangers,
}

impl Strangers {
    fn new(most: usize) -> Self {
        Self {
            most,
            waiting: Arc::default(),
        }
    }

    /// A connection that has just come; the oldest goes when there are too many.
    fn enter(&self) -> Arc<Visit> {
        let pushed_out = CancellationToken::new();
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.connections.insert(number, pushed_out.clone());
        if waiting.connections.len() > self.most
            && let Some((_, oldest)) = waiting.connections.pop_first()
        {
            oldest.cancel();
        }
        Arc::new(Visit {
            number,
            pushed_out,
            strangers: self.clone(),
        })
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Waiting> {
        self.waiting.lock()
    }
}

impl Visit {
    /// It has shown the join token: it may stay.
    pub(crate) fn mark_member(&self) {
        self.strangers.lock().connections.remove(&self.number);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.mark_member();
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    struct Served {
        address: SocketAddr,
        shutdown: CancellationToken,
        serving: tokio::task::JoinHandle<()>,
        /// `/slow` was asked for, and may answer.
        asked: Arc<Notify>,
        answers: Arc<Notify>,
    }

    /// `/member` makes a member of who asks for it.
    async fn serve(head_timeout: Duration, most: usize) -> Served {
        let welcome = async |request: axum::extract::Request| {
            request
                .extensions()
                .get::<Arc<Visit>>()
                .unwrap()
                .mark_member();
        };
        let address = async |ConnectInfo(remote): ConnectInfo<SocketAddr>| remote.ip().to_string();
        let (asked, answers) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let gates = (Arc::clone(&asked), Arc::clone(&answers));
        let slow = async move || {
            gates.0.notify_one();
            gates.1.notified().await;
            "slow"
        };
        let router = Router::new()
            .route("/member", get(welcome))
            .route("/slow", get(slow))
            .route("/", get(address));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = ApiServer {
            head_timeout,
            strangers: Strangers::new(most),
            ..ApiServer::new(listener, router)
        };
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(server.serve(shutdown.clone()));
        Served {
            address,
            shutdown,
            serving,
            asked,
            answers,
        }
    }

    async fn ask(stream: &mut TcpStream, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut buffer = vec![0; 4096];
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut buffer)).await;
        String::from_utf8_lossy(&buffer[..read.unwrap().unwrap()]).into_owned()
    }

    /// Whether the server closes it, by a reset or an end.
    async fn is_closed(stream: &mut TcpStream) -> bool {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
        ended.is_ok()
    }

    #[tokio::test]
    async fn half_a_request_head_does_not_hold_a_connection() {
        let served = serve(Duration::from_millis(200), 8).await;
        let mut slow = TcpStream::connect(served.address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        let mut silent = TcpStream::connect(served.address).await.unwrap();
        assert!(is_closed(&mut slow).await && is_closed(&mut silent).await);
        let mut other = TcpStream::connect(served.address).await.unwrap();
        let answer = ask(&mut other, "/").await;
        assert!(answer.ends_with("127.0.0.1"), "{answer}");
    }

    #[tokio::test]
    async fn strangers_push_each_other_out_and_members_stay() {
        let served = serve(HEAD_TIMEOUT, 2).await;
        let mut member = TcpStream::connect(served.address).await.unwrap();
        assert!(
            ask(&mut member, "/member")
                .await
                .starts_with("HTTP/1.1 200")
        );
        let mut strangers = Vec::new();
        for _ in 0..5 {
            let mut stranger = TcpStream::connect(served.address).await.unwrap();
            // Answered, and thereby accepted in this order.
            assert!(ask(&mut stranger, "/").await.starts_with("HTTP/1.1 200"));
            strangers.push(stranger);
        }
        for stranger in &mut strangers[..3] {
            assert!(is_closed(stranger).await);
        }
        for stranger in &mut strangers[3..] {
            assert!(ask(stranger, "/").await.starts_with("HTTP/1.1 200"));
        }
        assert!(ask(&mut member, "/").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn an_answer_under_way_is_finished_when_the_server_stops() {
        let served = serve(HEAD_TIMEOUT, 8).await;
        let mut client = TcpStream::connect(served.address).await.unwrap();
        let mut resting = TcpStream::connect(served.address).await.unwrap();
        assert!(ask(&mut resting, "/").await.starts_with("HTTP/1.1 200"));
        let (answer, ()) = tokio::join!(ask(&mut client, "/slow"), async {
            served.asked.notified().await;
            served.shutdown.cancel();
            served.answers.notify_one();
        });
        assert!(answer.ends_with("slow"), "{answer}");
        let stopped = tokio::time::timeout(DEADLINE, served.serving).await;
        stopped.unwrap().unwrap();
        assert!(is_closed(&mut resting).await);
    }
}
