//! Registries behind the site's HTTP proxy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod fakes;

use fakes::origin::{Origin, field, read_head};
use fakes::raw_client::{exchange, get};
use fakes::swarm::{FakeLayer, FakeSwarm};
use fakes::{RunningProxy, patterned, proxy};
use flotilla_proxy::ProxyConfig;
use flotilla_registry::egress::Egress;
use flotilla_torrents::DigestHasher;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const LOGIN: &str = "Basic dTpw";

/// An HTTP proxy that alone knows `reg.corp.invalid`, and wants a login.
async fn corporate() -> Origin {
    Origin::start(|head, mut stream| async move {
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let answer = if field(&head, "proxy-authorization") != Some(LOGIN) {
            "HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        } else if method == "CONNECT" {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let inside = read_head(&mut stream).await;
            assert!(inside.starts_with("GET /inside "), "{inside}");
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\ninside"
        } else if target.starts_with("http://reg.corp.invalid/") {
            "HTTP/1.1 206 X\r\nContent-Length: 1\r\nContent-Range: bytes 0-0/1000\r\nConnection: close\r\n\r\no"
        } else {
            "HTTP/1.1 502 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

fn behind(corporate: &Origin, login: &str, except: &str) -> ProxyConfig {
    let url = format!("http://{login}{}", corporate.addr).parse().unwrap();
    ProxyConfig {
        egress: Egress::through(&url, &url, except),
        ..ProxyConfig::default()
    }
}

async fn plain(config: ProxyConfig) -> RunningProxy {
    proxy(config, FakeSwarm::absent()).await
}

#[tokio::test]
async fn what_passes_through_takes_the_site_s_proxy() {
    let corporate = corporate().await;
    let proxy = plain(behind(&corporate, "u:p@", "")).await;
    let response = get(proxy.addr, "http://reg.corp.invalid/v2/?n=1", "").await;
    assert_eq!((response.status(), response.text()), (206, "o"));
    let seen = corporate.seen().remove(0);
    assert!(
        seen.starts_with("GET http://reg.corp.invalid/v2/?n=1 HTTP/1.1\r\n"),
        "{seen}"
    );
    assert_eq!(field(&seen, "host"), Some("reg.corp.invalid"));
}

#[tokio::test]
async fn tunnels_take_the_site_s_proxy() {
    let corporate = corporate().await;
    let proxy = plain(behind(&corporate, "u:p@", "")).await;
    let mut tunnel = TcpStream::connect(proxy.addr).await.unwrap();
    let connect = b"CONNECT reg.corp.invalid:443 HTTP/1.1\r\nHost: reg.corp.invalid:443\r\n\r\n";
    tunnel.write_all(connect).await.unwrap();
    let head = read_head(&mut tunnel).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    tunnel
        .write_all(b"GET /inside HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    tunnel.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\ninside"), "{answer}");
    let seen = corporate.seen().remove(0);
    assert!(seen.starts_with("CONNECT reg.corp.invalid:443 "), "{seen}");
}

#[tokio::test]
async fn the_check_of_a_caller_takes_the_site_s_proxy() {
    let corporate = corporate().await;
    let blob = patterned(1000);
    let swarm = FakeSwarm::with_local(FakeLayer::whole(&blob));
    let proxy = proxy(behind(&corporate, "u:p@", ""), swarm).await;
    let digest = DigestHasher::sha256_of(&blob);
    let url = format!("http://reg.corp.invalid/v2/app/blobs/{digest}");
    assert!(get(proxy.addr, &url, "").await.body == blob);
    assert_eq!(corporate.seen().len(), 1);
}

#[tokio::test]
async fn a_login_that_the_site_s_proxy_wants_is_asked_of_the_operator_and_not_of_engines() {
    let corporate = corporate().await;
    let proxy = plain(behind(&corporate, "", "")).await;
    let response = get(proxy.addr, "http://reg.corp.invalid/v2/", "").await;
    assert_eq!(response.status(), 502);
    assert!(
        response.text().contains("--registry-proxy"),
        "{}",
        response.text()
    );
    let tunnel = "CONNECT reg.corp.invalid:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(proxy.addr, tunnel).await.status(), 502);
}

#[tokio::test]
async fn exceptions_and_this_host_are_reached_straight() {
    let corporate = corporate().await;
    let registry =
        Origin::saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    let proxy = plain(behind(&corporate, "u:p@", ".corp.invalid")).await;
    let response = get(proxy.addr, &format!("http://{}/v2/", registry.addr), "").await;
    assert_eq!(response.text(), "ok");
    let response = get(proxy.addr, "http://reg.corp.invalid/v2/", "").await;
    assert_eq!(response.status(), 502);
    assert_eq!(corporate.seen().len(), 0);
}
