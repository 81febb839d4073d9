//! The proxy as a registry mirror.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod fakes;

use fakes::origin::{Origin, field};
use fakes::raw_client::{get, get_from_mirror};
use fakes::swarm::FakeSwarm;
use fakes::{mirror_of, plain_proxy, proxy};
use flotilla_proxy::{Proxy, ProxyConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

#[tokio::test]
async fn ns_is_stripped_and_its_host_asked() {
    let origin = Origin::saying(OK).await;
    let hosts = vec![format!("http://{}", origin.addr).parse().unwrap()];
    let proxy = proxy(
        ProxyConfig {
            mirror_hosts: hosts,
            ..ProxyConfig::default()
        },
        FakeSwarm::absent(),
    )
    .await;
    let ns = origin.addr.to_string().replace(':', "%3A");
    let response = get_from_mirror(
        proxy.addr,
        &format!("/v2/a/tags/list?n=5&ns={ns}&last=x%2fy"),
        "",
    )
    .await;
    assert_eq!(response.text(), "ok");
    let seen = origin.seen().remove(0);
    assert_eq!(
        seen.lines().next(),
        Some("GET /v2/a/tags/list?n=5&last=x%2fy HTTP/1.1")
    );
    assert_eq!(field(&seen, "host"), Some(origin.addr.to_string().as_str()));
}

#[tokio::test]
async fn without_ns_the_default_registry_is_asked() {
    let origin = Origin::saying(OK).await;
    let proxy = proxy(mirror_of(origin.addr), FakeSwarm::absent()).await;
    assert_eq!(get_from_mirror(proxy.addr, "/v2/", "").await.text(), "ok");
    assert_eq!(
        field(&origin.seen()[0], "host"),
        Some(origin.addr.to_string().as_str())
    );
}

#[tokio::test]
async fn hosts_outside_the_list_are_misdirected() {
    let origin = Origin::saying(OK).await;
    let proxy = proxy(mirror_of(origin.addr), FakeSwarm::absent()).await;
    let response = get_from_mirror(proxy.addr, "/v2/?ns=169.254.169.254", "").await;
    assert_eq!(response.status(), 421);
    assert!(
        response.text().contains("mirror_hosts"),
        "{}",
        response.text()
    );
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn without_any_registry_the_answer_says_what_to_do() {
    let proxy = plain_proxy().await;
    let response = get_from_mirror(proxy.addr, "/v2/", "").await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.field("content-type"), Some("application/json"));
    assert!(
        response.text().contains("--registry"),
        "{}",
        response.text()
    );
}

#[tokio::test]
async fn a_request_to_the_proxy_itself_ends_at_its_second_round() {
    let proxy = plain_proxy().await;
    let response = get(proxy.addr, &format!("http://{}/v2/", proxy.addr), "").await;
    assert_eq!(response.status(), 508);
}

#[tokio::test]
async fn two_proxies_that_name_each_other_end_it_too() {
    let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = there.local_addr().unwrap();
    let here = proxy(mirror_of(addr), FakeSwarm::absent()).await;
    let back = Proxy::new(&mirror_of(here.addr), FakeSwarm::absent()).unwrap();
    let shutdown = CancellationToken::new();
    let _guard = shutdown.clone().drop_guard();
    tokio::spawn(back.serve(there, shutdown));
    assert_eq!(get_from_mirror(here.addr, "/v2/", "").await.status(), 508);
}
