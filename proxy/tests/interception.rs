//! HTTPS registries behind `CONNECT`: the proxy ends the client's TLS, and verifies the
//! registry's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod fakes;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use fakes::swarm::{FakeLayer, FakeSwarm, Opening};
use fakes::{RunningProxy, patterned, proxy};
use flotilla_proxy::{InterceptConfig, ProxyConfig};
use flotilla_registry::tls::RegistryTls;
use flotilla_torrents::DigestHasher;
use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What the registry answers to everything.
const FROM_REGISTRY: &str = "from the registry";

/// A registry with TLS on loopback, certified by a CA of its own.
struct TlsRegistry {
    addr: SocketAddr,
    ca: tempfile::TempDir,
}

impl TlsRegistry {
    async fn start() -> Self {
        Self::start_with(false).await
    }

    /// `asks`: it takes only clients that show its own certificate.
    async fn start_with(asks: bool) -> Self {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        Self::start_as(&own, asks).await
    }

    async fn start_as(own: &CertifiedKey<KeyPair>, asks: bool) -> Self {
        let ca = tempfile::tempdir().unwrap();
        std::fs::write(ca.path().join("ca.pem"), own.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        std::fs::write(ca.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder(Arc::new(roots));
        let config = ServerConfig::builder();
        let config = if asks {
            config.with_client_cert_verifier(clients.build().unwrap())
        } else {
            config.with_no_client_auth()
        };
        let config = config
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    answer_all(BufReader::new(stream)).await;
                });
            }
        });
        Self { addr, ca }
    }

    /// A proxy that intercepts `registries`.
    async fn proxy(&self, registries: &[&str], trusts_it: bool, swarm: FakeSwarm) -> RunningProxy {
        let mut tls = RegistryTls::default();
        if trusts_it {
            tls.ca.push(self.ca.path().join("ca.pem"));
        }
        self.proxy_with(registries, tls, swarm).await
    }

    async fn proxy_with(
        &self,
        registries: &[&str],
        tls: RegistryTls,
        swarm: FakeSwarm,
    ) -> RunningProxy {
        let config = ProxyConfig {
            registry_tls: tls,
            intercept: Some(InterceptConfig {
                registries: registries.iter().map(|r| r.parse().unwrap()).collect(),
                ca_dir: self.ca.path().to_owned(),
            }),
            ..ProxyConfig::default()
        };
        proxy(config, swarm).await
    }
}

async fn answer_all(mut stream: BufReader<tokio_rustls::server::TlsStream<TcpStream>>) {
    let mut line = String::new();
    while let Ok(1..) = stream.read_line(&mut line).await {
        if line == "\r\n" {
            let length = FROM_REGISTRY.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{FROM_REGISTRY}");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        line.clear();
    }
}

/// Opens a tunnel to `server` and shakes hands as a client that trusts `ca` and asks for
/// `name`.
async fn connect(
    proxy: &RunningProxy,
    server: SocketAddr,
    name: &str,
    ca: &Path,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    let request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200"));
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    connector.connect(name, stream).await
}

/// One request on a kept connection; head and body of its answer.
async fn ask(stream: &mut TlsStream<TcpStream>, host: &str, path: &str) -> (String, Vec<u8>) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap();
    let length: usize = length.lines().next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (head, body)
}

#[tokio::test]
async fn case_14_a_layer_of_an_https_registry_comes_from_the_swarm() {
    let registry = TlsRegistry::start().await;
    let blob = patterned(1_000_003);
    let digest = DigestHasher::sha256_of(&blob);
    let swarm = FakeSwarm::opening(Opening::Layer(FakeLayer::whole(&blob)));
    let host = registry.addr.to_string();
    let proxy = registry.proxy(&[&host], true, swarm.clone()).await;
    let ca = registry.ca.path().join("ca.crt");
    let mut tunnel = connect(&proxy, registry.addr, "127.0.0.1", &ca)
        .await
        .unwrap();
    assert_eq!(tunnel.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));

    let (head, body) = ask(&mut tunnel, &host, "/v2/team/app/manifests/1").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, FROM_REGISTRY.as_bytes());

    let path = format!("/v2/team/app/blobs/{digest}");
    let (head, body) = ask(&mut tunnel, &host, &path).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body == blob);
    let opened = swarm.opened();
    assert_eq!(opened[0].url.as_str(), format!("https://{host}{path}"));
}

#[tokio::test]
async fn a_registry_that_cannot_be_verified_is_refused_by_name() {
    let registry = TlsRegistry::start().await;
    let host = registry.addr.to_string();
    let proxy = registry.proxy(&[&host], false, FakeSwarm::absent()).await;
    let ca = registry.ca.path().join("ca.crt");
    let mut tunnel = connect(&proxy, registry.addr, "127.0.0.1", &ca)
        .await
        .unwrap();
    let (head, body) = ask(&mut tunnel, &host, "/v2/").await;
    assert!(head.starts_with("http/1.1 502"), "{head}");
    let body = String::from_utf8(body).unwrap();
    assert!(
        body.contains(&host) && body.contains("certificate"),
        "{body}"
    );
}

#[tokio::test]
async fn other_servers_keep_their_own_certificates() {
    let registry = TlsRegistry::start().await;
    let proxy = registry
        .proxy(&["harbor.test"], true, FakeSwarm::absent())
        .await;
    // The proxy's own CA does not vouch for it, the registry's does.
    let own = registry.ca.path().join("ca.crt");
    connect(&proxy, registry.addr, "127.0.0.1", &own)
        .await
        .unwrap_err();
    let theirs = registry.ca.path().join("ca.pem");
    let mut tunnel = connect(&proxy, registry.addr, "127.0.0.1", &theirs)
        .await
        .unwrap();
    let (_, body) = ask(&mut tunnel, "anything", "/v2/").await;
    assert_eq!(body, FROM_REGISTRY.as_bytes());
}

#[tokio::test]
async fn a_tunnel_is_for_the_server_it_was_opened_to() {
    let registry = TlsRegistry::start().await;
    let host = registry.addr.to_string();
    let proxy = registry.proxy(&[&host], true, FakeSwarm::absent()).await;
    let ca = registry.ca.path().join("ca.crt");
    // A name in the handshake that is not listed.
    connect(&proxy, registry.addr, "other.test", &ca)
        .await
        .unwrap_err();
    // A name in the request that is another one.
    let mut tunnel = connect(&proxy, registry.addr, "127.0.0.1", &ca)
        .await
        .unwrap();
    let (head, _) = ask(&mut tunnel, "other.test", "/v2/").await;
    assert!(head.starts_with("http/1.1 421"), "{head}");
}

#[tokio::test]
async fn the_name_in_the_handshake_gets_its_own_certificate() {
    let registry = TlsRegistry::start().await;
    let host = registry.addr.to_string();
    let named = format!("harbor.test:{}", registry.addr.port());
    let proxy = registry
        .proxy(&[&host, &named], true, FakeSwarm::absent())
        .await;
    let ca = registry.ca.path().join("ca.crt");
    connect(&proxy, registry.addr, "harbor.test", &ca)
        .await
        .unwrap();
}

/// What the registry answers to an engine behind a proxy with these settings.
async fn answer_through(registry: &TlsRegistry, tls: RegistryTls) -> String {
    let host = registry.addr.to_string();
    let proxy = registry
        .proxy_with(&[&host], tls, FakeSwarm::absent())
        .await;
    let ca = registry.ca.path().join("ca.crt");
    let mut tunnel = connect(&proxy, registry.addr, "127.0.0.1", &ca)
        .await
        .unwrap();
    ask(&mut tunnel, &host, "/v2/").await.0
}

#[tokio::test]
async fn verification_is_turned_off_for_one_registry_by_its_name() {
    let registry = TlsRegistry::start().await;
    let mut tls = RegistryTls::default();
    tls.insecure.push("other.test".parse().unwrap());
    let answer = answer_through(&registry, tls.clone()).await;
    assert!(answer.starts_with("http/1.1 502"), "{answer}");
    tls.insecure
        .push(registry.addr.to_string().parse().unwrap());
    let answer = answer_through(&registry, tls).await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_registry_that_asks_for_a_certificate_gets_the_one_for_it() {
    let registry = TlsRegistry::start_with(true).await;
    let file = |name: &str| registry.ca.path().join(name);
    let mut tls = RegistryTls::default();
    tls.ca.push(file("ca.pem"));
    let answer = answer_through(&registry, tls.clone()).await;
    assert!(answer.starts_with("http/1.1 502"), "{answer}");
    let (chain, key) = (file("ca.pem"), file("key.pem"));
    let own = format!("{}={},{}", registry.addr, chain.display(), key.display());
    tls.client_certificates.push(own.parse().unwrap());
    let answer = answer_through(&registry, tls).await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
}

/// A registry whose certificate is marked as an authority's, as `openssl req -x509` makes it.
async fn as_authority(name: &str, is_over: bool) -> TlsRegistry {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    if is_over {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    }
    let signing_key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&signing_key).unwrap();
    TlsRegistry::start_as(&CertifiedKey { cert, signing_key }, false).await
}

#[tokio::test]
async fn a_server_certificate_that_the_operator_gave_is_taken_though_it_is_an_authority_s() {
    let given = |registry: &TlsRegistry| RegistryTls {
        ca: vec![registry.ca.path().join("ca.pem")],
        ..RegistryTls::default()
    };
    let registry = as_authority("127.0.0.1", false).await;
    let answer = answer_through(&registry, given(&registry)).await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    // Another one that is made the same way is not.
    let other = as_authority("127.0.0.1", false).await;
    let answer = answer_through(&registry, given(&other)).await;
    assert!(answer.starts_with("http/1.1 502"), "{answer}");
    for (name, is_over) in [("other.test", false), ("127.0.0.1", true)] {
        let registry = as_authority(name, is_over).await;
        let answer = answer_through(&registry, given(&registry)).await;
        assert!(
            answer.starts_with("http/1.1 502"),
            "{name} {is_over}: {answer}"
        );
    }
}
