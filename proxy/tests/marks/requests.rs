//! Requests of all kinds, and the connections that they come on.

use std::net::{Shutdown, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::OwnedFd;

use flotilla_proxy::{Mark, Proxy, ProxyConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::fakes::origin::{Origin, read_head};
use crate::fakes::swarm::FakeSwarm;
use crate::fakes::{mirror_of, plain_proxy, proxy};
use crate::layers::{free_addr, get, send};
use crate::until_marked;

/// A server that answers with `begin`, and then sends nothing more.
async fn hanging(begin: &'static str) -> Origin {
    Origin::start(move |_, mut stream| async move {
        stream.write_all(begin.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await
}

async fn get_marks(mark: Mark, url: &str, fields: &str) {
    let proxy = plain_proxy().await;
    get(&proxy, url, fields).await;
    until_marked(&proxy.stats, mark).await;
}

async fn request_marks(mark: Mark, request: impl AsRef<[u8]>) {
    let proxy = plain_proxy().await;
    send(&proxy, request).await;
    until_marked(&proxy.stats, mark).await;
}

pub(crate) async fn request_repeated() {
    let origin = Origin::start(move |_, mut stream| async move {
        let kept = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(kept).await.unwrap();
        // The next request on this connection is read, and never answered.
        read_head(&mut stream).await;
    })
    .await;
    let proxy = plain_proxy().await;
    let url = format!("http://{}/v2/", origin.addr);
    for _ in 0..2 {
        let answer = crate::fakes::raw_client::get(proxy.addr, &url, "").await;
        assert_eq!(answer.status(), 200);
    }
    until_marked(&proxy.stats, Mark::RequestRepeated).await;
}

pub(crate) async fn target_malformed() {
    get_marks(Mark::TargetMalformed, "ftp://a/b", "").await;
}

pub(crate) async fn registry_unnamed() {
    let request = "GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n";
    request_marks(Mark::RegistryUnnamed, request).await;
}

pub(crate) async fn host_not_mirrored() {
    let proxy = proxy(mirror_of(free_addr().await), FakeSwarm::absent()).await;
    let request = "GET /v2/?ns=other.test HTTP/1.1\r\nHost: a\r\n\r\n";
    send(&proxy, request).await;
    until_marked(&proxy.stats, Mark::HostNotMirrored).await;
}

pub(crate) async fn request_loop() {
    let proxy = plain_proxy().await;
    get(&proxy, &format!("http://{}/v2/", proxy.addr), "").await;
    until_marked(&proxy.stats, Mark::RequestLoop).await;
}

pub(crate) async fn link_local_refused() {
    get_marks(Mark::LinkLocalRefused, "http://169.254.169.254/", "").await;
}

pub(crate) async fn server_unreachable() {
    let url = format!("http://{}/", free_addr().await);
    get_marks(Mark::ServerUnreachable, &url, "").await;
}

pub(crate) async fn server_timed_out() {
    let origin = hanging("").await;
    let url = format!("http://{}/", origin.addr);
    get_marks(Mark::ServerTimedOut, &url, "").await;
}

pub(crate) async fn server_broke_off() {
    let origin = Origin::saying("").await;
    let url = format!("http://{}/", origin.addr);
    get_marks(Mark::ServerBrokeOff, &url, "").await;
}

pub(crate) async fn answer_stalled() {
    let origin = hanging("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
    let url = format!("http://{}/", origin.addr);
    get_marks(Mark::AnswerStalled, &url, "").await;
}

pub(crate) async fn head_too_large() {
    let request = format!(
        "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n",
        "x".repeat(600 * 1024)
    );
    let proxy = plain_proxy().await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    // The proxy closes before it has read all.
    let _ = stream.write_all(request.as_bytes()).await;
    until_marked(&proxy.stats, Mark::HeadTooLarge).await;
}

pub(crate) async fn request_malformed() {
    request_marks(Mark::RequestMalformed, "no request\r\n\r\n").await;
}

pub(crate) async fn connection_idle() {
    let proxy = plain_proxy().await;
    let _idle = TcpStream::connect(proxy.addr).await.unwrap();
    until_marked(&proxy.stats, Mark::ConnectionIdle).await;
}

pub(crate) async fn drain_timed_out() {
    let origin = hanging("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
    let proxy = plain_proxy().await;
    let mut busy = TcpStream::connect(proxy.addr).await.unwrap();
    let request = format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.addr);
    busy.write_all(request.as_bytes()).await.unwrap();
    read_head(&mut busy).await;
    proxy.shutdown.cancel();
    until_marked(&proxy.stats, Mark::DrainTimedOut).await;
}

pub(crate) async fn accept_failed() {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    // Linux accepts nothing from a socket that is shut down.
    let same: StdStream = OwnedFd::from(listener.try_clone().unwrap()).into();
    same.shutdown(Shutdown::Both).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let proxy = Proxy::new(&ProxyConfig::default(), FakeSwarm::absent()).unwrap();
    serve_until_marked(proxy, listener, Mark::AcceptFailed).await;
}

pub(crate) async fn connections_full() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _only = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let proxy = Proxy::new(&ProxyConfig::default(), FakeSwarm::absent()).unwrap();
    let proxy = proxy.limit_connections(1);
    serve_until_marked(proxy, listener, Mark::ConnectionsFull).await;
}

async fn serve_until_marked(proxy: Proxy, listener: TcpListener, mark: Mark) {
    let stats = proxy.stats();
    let shutdown = CancellationToken::new();
    let _stop = shutdown.clone().drop_guard();
    tokio::spawn(proxy.serve(listener, shutdown));
    until_marked(&stats, mark).await;
}

pub(crate) async fn expectation_ignored() {
    let origin = hanging("").await;
    let request = format!(
        "PUT http://{0}/v2/a/manifests/t HTTP/1.1\r\nHost: {0}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
        origin.addr
    );
    request_marks(Mark::ExpectationIgnored, request).await;
}

pub(crate) async fn range_answer_replaced() {
    let answer =
        "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 9\r\nConnection: close\r\n\r\nno";
    let origin = Origin::saying(answer).await;
    let url = format!("http://{}/v2/a/manifests/1", origin.addr);
    get_marks(Mark::RangeAnswerReplaced, &url, "Range: bytes=9-\r\n").await;
}

pub(crate) async fn manifests_busy() {
    let origin = hanging("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{").await;
    let proxy = plain_proxy().await;
    for tag in 0..17 {
        let url = format!("http://{}/v2/a/manifests/{tag}", origin.addr);
        get(&proxy, &url, "").await;
    }
    until_marked(&proxy.stats, Mark::ManifestsBusy).await;
}

pub(crate) async fn manifest_unreadable() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";
    let origin = Origin::saying(answer).await;
    let url = format!("http://{}/v2/a/manifests/1", origin.addr);
    get_marks(Mark::ManifestUnreadable, &url, "").await;
}
