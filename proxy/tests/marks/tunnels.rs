//! `CONNECT`, passed through and intercepted.

use std::sync::Arc;

use flotilla_proxy::{InterceptConfig, Mark, ProxyConfig};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::fakes::origin::read_head;
use crate::fakes::swarm::FakeSwarm;
use crate::fakes::{RunningProxy, plain_proxy, proxy};
use crate::until_marked;

const REGISTRY: &str = "harbor.test:443";

/// A proxy that intercepts [`REGISTRY`], and the directory of its CA.
async fn intercepting() -> (RunningProxy, TempDir) {
    let ca = tempfile::tempdir().unwrap();
    let config = ProxyConfig {
        intercept: Some(InterceptConfig {
            registries: vec![REGISTRY.parse().unwrap()],
            ca_dir: ca.path().to_owned(),
        }),
        ..ProxyConfig::default()
    };
    (proxy(config, FakeSwarm::absent()).await, ca)
}

async fn tunnel(proxy: &RunningProxy, server: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    let request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    stream
}

fn connector(ca: &TempDir) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(ca.path().join("ca.crt")).unwrap();
    roots.add(ca).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    TlsConnector::from(Arc::new(config.with_no_client_auth()))
}

pub(crate) async fn tunnel_idle() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = plain_proxy().await;
    let _client = tunnel(&proxy, &server.local_addr().unwrap().to_string()).await;
    let _server = server.accept().await.unwrap();
    until_marked(&proxy.stats, Mark::TunnelIdle).await;
}

pub(crate) async fn tunnel_misused() {
    let (proxy, ca) = intercepting().await;
    let stream = tunnel(&proxy, REGISTRY).await;
    let name = ServerName::try_from("harbor.test").unwrap();
    let mut stream = connector(&ca).connect(name, stream).await.unwrap();
    let request = "GET /v2/ HTTP/1.1\r\nHost: other.test\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    until_marked(&proxy.stats, Mark::TunnelMisused).await;
}

pub(crate) async fn handshake_failed() {
    let (proxy, _ca) = intercepting().await;
    let mut stream = tunnel(&proxy, REGISTRY).await;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    until_marked(&proxy.stats, Mark::HandshakeFailed).await;
}

pub(crate) async fn handshake_timed_out() {
    let (proxy, _ca) = intercepting().await;
    let _silent = tunnel(&proxy, REGISTRY).await;
    until_marked(&proxy.stats, Mark::HandshakeTimedOut).await;
}

pub(crate) async fn handshake_name_unlisted() {
    let (proxy, ca) = intercepting().await;
    let stream = tunnel(&proxy, REGISTRY).await;
    let name = ServerName::try_from("other.test").unwrap();
    connector(&ca).connect(name, stream).await.unwrap_err();
    until_marked(&proxy.stats, Mark::HandshakeNameUnlisted).await;
}

pub(crate) async fn ca_certificate_made() {
    let (proxy, _ca) = intercepting().await;
    until_marked(&proxy.stats, Mark::CaCertificateMade).await;
}
