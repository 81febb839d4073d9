//! Images that are in the swarm before anybody pulls them.

use std::collections::HashSet;

use axum::http::Method;
use flotilla_client::ContentRequest;
use flotilla_cluster::messages::preheats::{JobState, PreheatEvent};
use flotilla_torrents::Digest;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::fakes::{Cluster, DEADLINE, JOIN_TOKEN, Registry, digest_of};

/// An image for two platforms, with a layer in common, a small one and a foreign one.
struct Image {
    name: String,
    amd64: HashSet<Digest>,
    arm64: HashSet<Digest>,
    foreign: Digest,
    layer: Value,
}

fn image(registry: &Registry) -> Image {
    let common = registry.blob(1, 3 << 20);
    let foreign = json!({"digest": format!("sha256:{}", "ab".repeat(32)), "size": 9,
        "urls": ["https://elsewhere.test/layer"]});
    let platform = |architecture: &str, config: Value, layers: Vec<Value>| {
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let mut child = registry.manifest("team/app", architecture, &manifest);
        child["platform"] = json!({"os": "linux", "architecture": architecture});
        child
    };
    let (config, small) = (registry.blob(2, 700), registry.blob(3, 9000));
    let amd64 = [&config, &common, &small].map(digest_of);
    let layers = vec![common.clone(), small, foreign.clone()];
    let first = platform("amd64", config, layers);
    let (config, own) = (registry.blob(4, 800), registry.blob(5, 2 << 20));
    let arm64 = [&config, &common, &own].map(digest_of);
    let second = platform("arm64", config, vec![common.clone(), own]);
    let index = json!({"schemaVersion": 2, "manifests": [first, second]});
    registry.manifest("team/app", "1.0", &index);
    Image {
        name: format!("{}/team/app:1.0", registry.addr),
        amd64: amd64.into(),
        arm64: arm64.into(),
        foreign: digest_of(&foreign),
        layer: common,
    }
}

fn brought(events: &[PreheatEvent]) -> HashSet<Digest> {
    let layers = events.iter().filter_map(|event| match event {
        PreheatEvent::Layer { digest, .. } => Some(digest.clone()),
        _ => None,
    });
    layers.collect()
}

fn reasons(events: &[PreheatEvent]) -> Vec<&str> {
    let failed = events.iter().filter_map(|event| match event {
        PreheatEvent::Failed { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    failed.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preheated_image_is_pulled_without_reading_the_registry_again() {
    let registry = Registry::start().await;
    let image = image(&registry);
    let listed = [format!("http://{}", registry.addr)];
    let mut cluster = Cluster::start(Some(&registry), &listed).await;
    let request = json!({"images": [image.name], "platforms": ["linux/amd64"]});
    let events = cluster.preheat(&request).await;
    assert_eq!(brought(&events), image.amd64, "{events:?}");
    let foreign = PreheatEvent::Foreign {
        image: image.name.clone(),
        digest: image.foreign,
    };
    assert!(events.contains(&foreign), "{events:?}");
    let last = events.last().unwrap();
    let bytes = (3 << 20) + 700 + 9000;
    let PreheatEvent::Finished(job) = last else {
        panic!("{events:?}");
    };
    assert_eq!(job.state, JobState::Success, "{events:?}");
    assert_eq!((job.layers, job.bytes, job.failed), (3, bytes, 0));
    // Who comes after the end hears the same.
    assert_eq!(cluster.events(&json!(job.id)).await, events);

    let digest = digest_of(&image.layer);
    let url = format!("http://{}/v2/team/app/blobs/{digest}", registry.addr);
    let request = |token: String| ContentRequest {
        url: url.parse().unwrap(),
        headers: vec![("Authorization".to_owned(), format!("Bearer {token}"))],
        digest: Some(digest.clone()),
        filter_query: Vec::new(),
    };
    let node = cluster.node().await;
    assert!(node.open(request("stranger".to_owned())).await.is_err());
    let layer = node.open(request(registry.token())).await.unwrap();
    let parts = layer.read(0..layer.length()).map(Result::unwrap);
    let parts = tokio::time::timeout(DEADLINE, parts.collect::<Vec<_>>());
    let bytes = parts.await.unwrap().concat();
    let content = registry.lock();
    assert!(bytes == content.blobs[&digest.to_string()]);
    let whole: HashSet<Digest> = content.whole.iter().map(|d| d.parse().unwrap()).collect();
    assert_eq!((content.whole.len(), whole), (3, image.amd64));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_login_serves_all_layers_of_a_repository() {
    let registry = Registry::start().await;
    let image = image(&registry);
    let listed = [format!("http://{}", registry.addr)];
    let cluster = Cluster::start(Some(&registry), &listed).await;
    let events = cluster.preheat(&json!({"images": [image.name]})).await;
    let all: HashSet<Digest> = image.amd64.union(&image.arm64).cloned().collect();
    assert_eq!(brought(&events), all, "{events:?}");
    let query = "service=harbor-registry&scope=repository%3Ateam%2Fapp%3Apull";
    let robot = Some("robot$preheat:harbour-light".to_owned());
    let expected = (Method::GET, query.to_owned(), robot);
    assert_eq!(registry.lock().logins, std::slice::from_ref(&expected));

    // The registry does not take the token any longer; its layers are here.
    registry.lock().tokens.clear();
    let events = cluster.preheat(&json!({"images": [image.name]})).await;
    assert_eq!(brought(&events), all, "{events:?}");
    assert_eq!(registry.lock().logins, [expected.clone(), expected]);
    assert_eq!(registry.lock().whole.len(), all.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_and_only_listed_registries() {
    let registry = Registry::start().await;
    let image = image(&registry);
    // Credentials alone let no password out over plain HTTP.
    let cluster = Cluster::start(Some(&registry), &["http://169.254.169.254".to_owned()]).await;
    let request = json!({"images": [image.name]});
    let (status, _) = cluster.post("another secret altogether", &request).await;
    assert_eq!(status, 401);
    for name in ["127.0.0.1:1/a:1", "docker.io/library/nginx"] {
        let request = json!({"images": [name]});
        let (status, body) = cluster.post(JOIN_TOKEN, &request).await;
        assert_eq!(status, 403, "{name}: {body}");
        assert!(body.contains("not listed"), "{name}: {body}");
    }
    let name = "169.254.169.254/latest/meta-data:1";
    let events = cluster.preheat(&json!({"images": [name]})).await;
    assert!(reasons(&events)[0].contains("link-local"), "{events:?}");
    let events = cluster.preheat(&request).await;
    assert_eq!(reasons(&events).len(), 1, "{events:?}");
    let content = registry.lock();
    assert_eq!((content.requests, content.logins.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_s_reason_is_given() {
    let registry = Registry::start().await;
    let image = image(&registry);
    let lost = json!({"config": registry.blob(8, 500), "layers": [
        {"digest": format!("sha256:{}", "cd".repeat(32)), "size": 5}]});
    registry.manifest("team/app", "lost", &lost);
    let listed = [format!("http://{}", registry.addr)];
    let cluster = Cluster::start(Some(&registry), &listed).await;
    let at = |reference: &str| format!("{}/team/app:{reference}", registry.addr);
    for (name, platform, reason) in [
        (at("2.0"), None, "404 MANIFEST_UNKNOWN: manifest unknown"),
        (at("lost"), None, "404"),
        (
            image.name.clone(),
            Some("linux/s390x"),
            "it is for linux/amd64, linux/arm64",
        ),
    ] {
        let platforms: Vec<_> = platform.into_iter().collect();
        let request = json!({"images": [name, image.name], "platforms": platforms});
        let events = cluster.preheat(&request).await;
        assert!(reasons(&events)[0].contains(reason), "{events:?}");
    }
    for request in [
        json!({"images": []}),
        json!({"images": ["A B"]}),
        json!({"images": [image.name], "platforms": ["linux"]}),
        json!({"images": vec![image.name; 300]}),
        json!({"pictures": []}),
    ] {
        let (status, body) = cluster.post(JOIN_TOKEN, &request).await;
        assert!((400..500).contains(&status), "{status} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_not_what_its_digest_says_is_refused() {
    let registry = Registry::start().await;
    let image = image(&registry);
    let digest = format!("sha256:{}", "ef".repeat(32));
    let manifest = registry.lock().manifests["team/app amd64"].clone();
    let name = format!("team/app {digest}");
    registry.lock().manifests.insert(name, manifest);
    let listed = [format!("http://{}", registry.addr)];
    let cluster = Cluster::start(Some(&registry), &listed).await;
    let name = format!("{}@{digest}", image.name);
    let events = cluster.preheat(&json!({"images": [name]})).await;
    assert!(
        reasons(&events)[0].contains("another manifest"),
        "{events:?}"
    );
    assert!(registry.lock().whole.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_does_not_follow_a_token_service_s_redirect() {
    let (registry, elsewhere) = (Registry::start().await, Registry::start().await);
    let image = image(&registry);
    let away = format!("http://{}/service/token", elsewhere.addr);
    registry.lock().realm_redirect = Some(away);
    let listed = [format!("http://{}", registry.addr)];
    let cluster = Cluster::start(Some(&registry), &listed).await;
    let events = cluster.preheat(&json!({"images": [image.name]})).await;
    assert!(reasons(&events)[0].contains("token service"), "{events:?}");
    assert!(registry.lock().logins[0].2.is_some());
    let content = elsewhere.lock();
    assert!(content.logins.iter().all(|(_, _, shown)| shown.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_supernodes_share_an_image_as_nodes_ask_for_it() {
    let registry = Registry::start().await;
    let image = image(&registry);
    let listed = [format!("http://{}", registry.addr)];
    let one = Cluster::start(Some(&registry), &listed).await;
    let two = Cluster::start(Some(&registry), &listed).await;
    let names = [one.supernode.to_string(), two.supernode.to_string()];
    let mut all = Vec::new();
    for cluster in [&one, &two] {
        let share = json!({"supernodes": names, "own": cluster.supernode.to_string()});
        let request = json!({"images": [image.name], "share": share});
        all.extend(brought(&cluster.preheat(&request).await));
    }
    let expected: HashSet<Digest> = image.amd64.union(&image.arm64).cloned().collect();
    assert_eq!(all.len(), expected.len(), "no layer twice");
    assert_eq!(HashSet::from_iter(all), expected);
    assert_eq!(registry.lock().whole.len(), expected.len());
}
