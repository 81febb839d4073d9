//! Logins at mirrors that are named in the path: whose credentials go where.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod fakes;

use fakes::origin::{Origin, field};
use fakes::raw_client::{RawResponse, get_from_mirror};
use fakes::swarm::FakeSwarm;
use fakes::{RunningProxy, proxy};
use flotilla_proxy::ProxyConfig;

const LOGIN: &str = "Authorization: Basic dTpw\r\n";
const TAKES_BASIC: &str = "HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Basic realm=\"r\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const LETS_IN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";

/// Takes Basic credentials, any.
async fn registry() -> Origin {
    Origin::start(|head, mut stream| async move {
        use tokio::io::AsyncWriteExt as _;
        let answer = match field(&head, "authorization") {
            Some(_) => LETS_IN,
            None => TAKES_BASIC,
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

async fn mirror(default: Option<&Origin>, listed: &[&Origin]) -> RunningProxy {
    let config = ProxyConfig {
        registry: default.map(|origin| format!("http://{}", origin.addr).parse().unwrap()),
        mirror_hosts: listed
            .iter()
            .map(|origin| format!("http://{}", origin.addr).parse().unwrap())
            .collect(),
        ..ProxyConfig::default()
    };
    proxy(config, FakeSwarm::absent()).await
}

async fn ask_token(proxy: &RunningProxy, query: &str) -> RawResponse {
    let path = format!("/flotilla/v1/token?account=u&service=flotilla{query}");
    get_from_mirror(proxy.addr, &path, LOGIN).await
}

fn token(response: &RawResponse) -> String {
    assert_eq!(response.status(), 200, "{}", response.text());
    let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    json["token"].as_str().unwrap().to_owned()
}

fn has_credentials(origin: &Origin) -> bool {
    let seen = origin.seen();
    seen.iter()
        .any(|head| field(head, "authorization").is_some())
}

#[tokio::test]
async fn a_login_that_names_no_registry_reaches_none_of_several() {
    let (default, listed) = (registry().await, registry().await);
    let proxy = mirror(Some(&default), &[&listed]).await;
    let login = token(&ask_token(&proxy, "").await);
    // podman stores the login once this is a 200.
    let fields = format!("Authorization: Bearer {login}\r\n");
    let ping = get_from_mirror(proxy.addr, "/v2/", &fields).await;
    assert_eq!(ping.status(), 200);
    assert_eq!(default.seen().len(), 0);
    assert_eq!(listed.seen().len(), 0);
    // A pull names its registry.
    let host = listed.addr.to_string().replace(':', "__");
    let scope = format!("&scope=repository%3A{host}%2Fteam%2Fapp%3Apull");
    let token = token(&ask_token(&proxy, &scope).await);
    assert_ne!(token, login);
    assert!(has_credentials(&listed));
    let fields = format!("Authorization: Bearer {token}\r\n");
    let path = format!("/v2/{host}/team/app/manifests/1");
    let pulled = get_from_mirror(proxy.addr, &path, &fields).await;
    assert_eq!(pulled.status(), 200);
    assert_eq!(default.seen().len(), 0);
}

#[tokio::test]
async fn a_scope_of_an_unlisted_host_is_refused_and_not_the_default_registry_s() {
    let (default, listed) = (registry().await, registry().await);
    let proxy = mirror(Some(&default), &[&listed]).await;
    for host in ["unlisted.example", "unlisted__5000", "localhost"] {
        let scope = format!("&scope=repository%3A{host}%2Fapp%3Apull");
        let refused = ask_token(&proxy, &scope).await;
        assert_eq!(refused.status(), 421, "{host}");
        let text = refused.text();
        assert!(text.starts_with("{\"errors\":["), "{text}");
        assert!(
            text.contains("--mirror-host unlisted") || host == "localhost",
            "{text}"
        );
    }
    let catalog = ask_token(&proxy, "&scope=registry%3Acatalog%3A%2A").await;
    assert_eq!(catalog.status(), 400);
    assert_eq!(default.seen().len(), 0);
    assert_eq!(listed.seen().len(), 0);
}

#[tokio::test]
async fn a_repository_without_a_host_is_the_default_registry_s() {
    let (default, listed) = (registry().await, registry().await);
    let proxy = mirror(Some(&default), &[&listed]).await;
    token(&ask_token(&proxy, "&scope=repository%3Alibrary%2Falpine%3Apull").await);
    assert!(has_credentials(&default));
    assert_eq!(listed.seen().len(), 0);
}

#[tokio::test]
async fn the_only_registry_checks_a_login_at_once() {
    let listed = registry().await;
    let proxy = mirror(None, &[&listed]).await;
    token(&ask_token(&proxy, "").await);
    assert!(has_credentials(&listed));
}
