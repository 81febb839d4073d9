//! The proxy as a registry mirror.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod fakes;

use fakes::origin::{Origin, field};
use fakes::raw_client::{get, get_from_mirror};
use fakes::swarm::FakeSwarm;
use fakes::{RunningProxy, mirror_of, plain_proxy, proxy};
use flotilla_proxy::{Proxy, ProxyConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// A mirror of these hosts, without a default.
async fn listing(hosts: &[String]) -> RunningProxy {
    let config = ProxyConfig {
        mirror_hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        ..ProxyConfig::default()
    };
    proxy(config, FakeSwarm::absent()).await
}

/// Follows redirects as engines do: what is relative is resolved at the mirror.
async fn followed(mirror: &RunningProxy, path: &str) -> (u16, String) {
    let mut path = path.to_owned();
    for _ in 0..5 {
        let response = get_from_mirror(mirror.addr, &path, "").await;
        match response.field("location") {
            Some(location) if (300..400).contains(&response.status()) => {
                assert!(location.starts_with('/'), "past the mirror: {location}");
                path = location.to_owned();
            }
            _ => return (response.status(), response.text().to_owned()),
        }
    }
    panic!("a loop of redirects at {path}");
}

/// A registry that redirects within itself: to other paths of its API, and beside it.
async fn redirecting() -> Origin {
    Origin::start(|head, mut stream| async move {
        let host = field(&head, "host").unwrap();
        let target = head.split(' ').nth(1).unwrap();
        let location = match target {
            "/v2/hub/app/manifests/1" => "/v2/hub/library/app/manifests/1".to_owned(),
            "/v2/hub/far/manifests/1" => format!("http://{host}/v2/hub/library/app/manifests/1"),
            "/v2/hub/near/manifests/1" => "../../library/app/manifests/1".to_owned(),
            "/v2/hub/app/blobs/x" => "/downloads/x?sig=a%2Fb".to_owned(),
            _ => String::new(),
        };
        let is_there =
            ["/v2/hub/library/app/manifests/1", "/downloads/x?sig=a%2Fb"].contains(&target);
        let (status, fields) = match (location.as_str(), is_there) {
            ("", true) => ("200 OK", String::new()),
            ("", false) => ("404 Not Found", String::new()),
            (location, _) => ("302 Found", format!("Location: {location}\r\n")),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\n{fields}Content-Length: 2\r\nConnection: close\r\n\r\nok"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

#[tokio::test]
async fn redirects_within_a_registry_lead_there_again_however_it_was_named() {
    let registry = redirecting().await;
    let other = Origin::saying(OK).await;
    let hosts = [&registry, &other].map(|origin| format!("http://{}", origin.addr));
    let mirror = listing(&hosts).await;
    let lone = listing(&hosts[..1]).await;
    let default = proxy(mirror_of(registry.addr), FakeSwarm::absent()).await;
    let (ns, component) = (
        registry.addr.to_string(),
        registry.addr.to_string().replace(':', "__"),
    );
    for path in [
        "hub/app/manifests/1",
        "hub/far/manifests/1",
        "hub/near/manifests/1",
        "hub/app/blobs/x",
    ] {
        for (mirror, asked) in [
            (&mirror, format!("/v2/{path}?ns={ns}")),
            (&mirror, format!("/v2/{component}/{path}")),
            (&lone, format!("/v2/{path}")),
            (&default, format!("/v2/{path}")),
        ] {
            let (status, body) = followed(mirror, &asked).await;
            assert_eq!((status, body.as_str()), (200, "ok"), "{asked}");
        }
    }
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn a_listed_host_in_the_path_is_asked_whatever_ns_says() {
    let harbor = Origin::saying(OK).await;
    let mirror = listing(&[format!("http://{}", harbor.addr), "docker.io".to_owned()]).await;
    let component = harbor.addr.to_string().replace(':', "__");
    let path = format!("/v2/{component}/dockerhub/library/app/manifests/1?ns=docker.io");
    assert_eq!(get_from_mirror(mirror.addr, &path, "").await.text(), "ok");
    assert_eq!(
        harbor.seen()[0].lines().next(),
        Some("GET /v2/dockerhub/library/app/manifests/1 HTTP/1.1")
    );
}

#[tokio::test]
async fn a_lone_mirror_host_is_asked_where_nothing_is_named() {
    let registry = Origin::saying(OK).await;
    let mirror = listing(&[format!("http://{}", registry.addr)]).await;
    let response = get_from_mirror(mirror.addr, "/v2/team/app/tags/list", "").await;
    assert_eq!(response.text(), "ok");
}

#[tokio::test]
async fn dragonfly_s_header_names_one_of_several_registries() {
    let registry = Origin::saying(OK).await;
    let url = format!("http://{}", registry.addr);
    let mirror = listing(&[url.clone(), "other.test".to_owned()]).await;
    let header = format!("X-Dragonfly-Registry: {url}\r\n");
    let response = get_from_mirror(mirror.addr, "/v2/team/app/tags/list", &header).await;
    assert_eq!(response.text(), "ok");
    let header = "X-Dragonfly-Registry: https://evil.test\r\n";
    let response = get_from_mirror(mirror.addr, "/v2/team/app/tags/list", header).await;
    assert_eq!(response.status(), 421);
}

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
