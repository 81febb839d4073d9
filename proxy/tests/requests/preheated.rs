//! A real registry, from which a supernode takes an image before anybody pulls it.

use std::path::Path;

use data_encoding::BASE64;
use flotilla_cluster::messages::preheats::{JobState, JobStatus, PreheatEvent};
use flotilla_cluster::preheat_client as preheat;
use flotilla_cluster::preheat_client::PreheatOptions;
use flotilla_registry::login::LoginConfig;
use flotilla_torrents::DigestHasher;
use futures_util::StreamExt as _;
use http::Response;
use http::request::Parts;

use crate::fakes::DEADLINE;
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

/// What becomes of each layer, and the end.
async fn preheat(options: &PreheatOptions) -> (Vec<PreheatEvent>, JobStatus) {
    let job = preheat::submit(options).await.unwrap().remove(0);
    let events = job.events().map(Result::unwrap).collect();
    let mut events: Vec<PreheatEvent> = tokio::time::timeout(DEADLINE, events).await.unwrap();
    match events.pop() {
        Some(PreheatEvent::Finished(ended)) => (events, ended),
        last => panic!("{last:?} after {events:?}"),
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
    let (events, ended) = preheat(&options).await;
    assert_eq!(ended.state, JobState::Success, "{ended:?}");
    assert_eq!((ended.layers, ended.failed), (2, 0), "{events:?}");
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
    let (events, ended) = preheat(&options).await;
    assert_eq!(ended.state, JobState::Failure, "{ended:?}");
    assert_eq!((ended.layers, ended.failed), (0, 1));
    let PreheatEvent::Failed { reason, .. } = &events[0] else {
        panic!("{events:?}");
    };
    assert!(reason.contains("404 MANIFEST_UNKNOWN"), "{reason}");
    assert!(ended.cause.unwrap().contains(reason.as_str()));
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
    let refused = preheat::submit(&options).await.unwrap_err().to_string();
    assert!(refused.contains("not listed"), "{refused}");
    assert!(registry.seen().is_empty());
}
