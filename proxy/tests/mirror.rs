//! The proxy as a registry mirror.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod fakes;

use fakes::origin::{Origin, field};
use fakes::raw_client::{exchange, get_from_mirror};
use fakes::swarm::FakeSwarm;
use fakes::{mirror_of, plain_proxy, proxy};
use flotilla_proxy::ProxyConfig;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

#[tokio::test]
async fn ns_is_stripped_and_its_host_asked() {
    let origin = Origin::saying(OK).await;
    let hosts = vec![format!("http://{}", origin.addr)];
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
async fn a_loop_ends_at_its_second_round() {
    let proxy = plain_proxy().await;
    let own = proxy.addr;
    let request =
        format!("GET http://{own}/v2/ HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n");
    // To itself, as a mirror without registry: no loop.
    assert_eq!(exchange(proxy.addr, request).await.status(), 404);
    let looping = fakes::proxy(ProxyConfig::default(), FakeSwarm::absent()).await;
    let nested = format!("http://{}/v2/", looping.addr);
    let origin = Origin::start(move |head, mut stream| {
        let nested = nested.clone();
        async move {
            // Sends the request back to the proxy it came from, as a misconfigured hop would.
            let via = field(&head, "via").unwrap().to_owned();
            let fields = format!("Via: {via}\r\n");
            let addr = nested.split('/').nth(2).unwrap().parse().unwrap();
            let response = fakes::raw_client::get(addr, &nested, &fields).await;
            use tokio::io::AsyncWriteExt as _;
            stream.write_all(response.head.as_bytes()).await.unwrap();
            stream.write_all(&response.body).await.unwrap();
        }
    })
    .await;
    let response =
        fakes::raw_client::get(looping.addr, &format!("http://{}/v2/", origin.addr), "").await;
    assert_eq!(response.status(), 508);
}
