//! A real registry, from which a supernode takes an image before anybody pulls it.

use std::path::Path;

use data_encoding::BASE64;
use flotilla_cluster::messages::preheats::PreheatEvent;
use flotilla_cluster::preheat_client as preheat;
use flotilla_cluster::preheat_client::PreheatOptions;
use flotilla_registry::login::LoginConfig;
use flotilla_torrents::DigestHasher;
use http::Response;
use http::request::Parts;

use crate::stack::{LOGIN, RealRegistry, Scripted, Stack, push_image};

fn logins(dir: &Path, registry: &str) -> LoginConfig {
    let path = dir.join("config.json");
    let auth = BASE64.encode(b"operator:harbour-light");
    let file = serde_json::json!({"auths": {registry: {"auth": auth}}});
    std::fs::write(&path, file.to_string()).unwrap();
    LoginConfig {
        auth_file: Some(path),
        registries: vec![format!("http://{registry}").parse().unwrap()],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_a_registry_with_a_login_is_preheated_and_pulled() {
    let registry = RealRegistry::start().await;
    let name = registry.addr.to_string();
    let dir = tempfile::tempdir().unwrap();
    let stack = Stack::with_logins(registry.addr, logins(dir.path(), &name)).await;
    let layer: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    push_image(&stack, "team/app", "1.0", &layer).await;
    let options = PreheatOptions {
        images: vec![format!("{name}/team/app:1.0")],
        platforms: Vec::new(),
        nodes: None,
        supernodes: vec![stack.supernode.parse().unwrap()],
        join_token: None,
        filter_query: Vec::new(),
    };
    let mut events = Vec::new();
    let summary = preheat::run(&options, |event| events.push(event.clone())).await;
    let summary = summary.unwrap();
    assert_eq!((summary.layers, summary.failed), (2, 0), "{events:?}");
    let digest = DigestHasher::sha256_of(&layer);
    let is_layer = |event: &PreheatEvent| matches!(event, PreheatEvent::Layer { digest: own, bytes: 3_000_000, .. } if *own == digest);
    assert!(events.iter().any(is_layer), "{events:?}");

    let path = format!("/v2/team/app/blobs/{digest}");
    let pulled = stack.ask("GET", &path, LOGIN, b"").await;
    assert_eq!((pulled.status(), &pulled.body), (200, &layer));
    let stranger = stack.ask("GET", &path, "", b"").await;
    assert_eq!(stranger.status(), 401);

    let options = PreheatOptions {
        images: vec![format!("{name}/team/app:2.0")],
        ..options
    };
    let mut reason = String::new();
    let told = |event: &PreheatEvent| {
        if let PreheatEvent::Failed { reason: said, .. } = event {
            reason.clone_from(said);
        }
    };
    let summary = preheat::run(&options, told).await.unwrap();
    assert_eq!((summary.layers, summary.failed), (0, 1));
    assert!(reason.contains("404 MANIFEST_UNKNOWN"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supernode_that_does_not_know_the_registry_says_so() {
    let registry = Scripted::start(|_: &Parts| Response::default()).await;
    let stack = Stack::before(registry.addr).await;
    let options = PreheatOptions {
        images: vec![format!("{}/team/app:1.0", registry.addr)],
        platforms: Vec::new(),
        nodes: None,
        supernodes: vec![stack.supernode.parse().unwrap()],
        join_token: None,
        filter_query: Vec::new(),
    };
    let mut events = Vec::new();
    let summary = preheat::run(&options, |event| events.push(event.clone())).await;
    assert_eq!(summary.unwrap().failed, 1);
    assert!(format!("{events:?}").contains("not listed"), "{events:?}");
    assert!(registry.seen().is_empty());
}
