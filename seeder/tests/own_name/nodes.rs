//! Layers that are on nodes before anybody pulls them.

use std::collections::HashSet;

use axum::http::Method;
use flotilla_client::{ContentRequest, Node};
use flotilla_seeder::PreheatTriggers;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::fakes::{Cluster, DEADLINE, Registry};
use crate::harbor_driver::{Auth, Driver, PreheatImage};
use crate::jobs::wait_for;
use crate::triggers::{image, instance};

/// Nodes that take orders.
async fn nodes(cluster: &mut Cluster, names: &[&str]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for name in names {
        let node = cluster.node_called(name).await;
        node.accept_prefetch();
        nodes.push(node);
    }
    nodes
}

/// What this node has of the blobs.
async fn held(node: &Node, registry: &Registry, digests: &HashSet<String>) -> usize {
    let mut held = 0;
    for digest in digests {
        let url = format!("http://{}/v2/team/app/blobs/{digest}", registry.addr);
        let (digest, url) = (digest.parse().unwrap(), url.parse().unwrap());
        let local = node.local(&digest, &url);
        held += usize::from(local.await.is_some());
    }
    held
}

/// The bytes of a blob as a pull gets them.
async fn pull(node: &Node, registry: &Registry, digest: &str) {
    let url = format!("http://{}/v2/team/app/blobs/{digest}", registry.addr);
    let request = ContentRequest {
        url: url.parse().unwrap(),
        headers: vec![(
            "Authorization".to_owned(),
            format!("Bearer {}", registry.token()),
        )],
        digest: Some(digest.parse().unwrap()),
        filter_query: Vec::new(),
    };
    let layer = match node.local(&digest.parse().unwrap(), &request.url).await {
        Some(layer) => layer,
        None => node.open(request).await.unwrap(),
    };
    let parts = layer.read(0..layer.length()).map(Result::unwrap);
    let bytes = tokio::time::timeout(DEADLINE, parts.collect::<Vec<_>>()).await;
    assert!(bytes.unwrap().concat() == registry.lock().blobs[digest]);
}

fn images(
    registry: &Registry,
    scope: Option<&'static str>,
) -> (Vec<PreheatImage>, HashSet<String>) {
    let mut all = HashSet::new();
    let images = (0..3).map(|number| {
        let (image, digests) = image(registry, &format!("v{number}"), 10 * number);
        all.extend(digests);
        PreheatImage { scope, ..image }
    });
    (images.collect(), all)
}

#[tokio::test(flavor = "multi_thread")]
async fn three_images_are_on_five_nodes_and_pulls_read_nothing_of_the_registry() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let mut cluster = Cluster::start(None, &listed).await;
    let names = ["node-1", "node-2", "node-3", "node-4", "node-5"];
    let nodes = nodes(&mut cluster, &names).await;
    let bystander = cluster.node_called("node-6").await;
    let (images, digests) = images(&registry, Some("all_peers"));
    let harbor = instance(&cluster, Driver::Dragonfly, Auth::None);
    let runs = images.iter().map(|image| harbor.run(image));
    for status in futures_util::future::join_all(runs).await {
        let rows = status.unwrap().rows;
        let hosts: HashSet<&str> = rows.iter().map(|row| row[1].as_str()).collect();
        let expected = names.into_iter().chain(["supernode"]).collect();
        assert_eq!(hosts, expected, "{rows:?}");
    }
    assert_eq!(digests.len(), 9);
    for node in &nodes {
        assert_eq!(held(node, &registry, &digests).await, 9);
    }
    assert_eq!(held(&bystander, &registry, &digests).await, 0);
    let sent = registry.lock().sent;
    let lengths = registry
        .lock()
        .blobs
        .values()
        .map(|blob| blob.len())
        .sum::<usize>();
    assert_eq!(sent, lengths, "each layer once");
    for node in &nodes {
        for digest in &digests {
            pull(node, &registry, digest).await;
        }
    }
    assert_eq!(registry.lock().sent, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_chosen_by_their_names() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let triggers = PreheatTriggers {
        nodes: Some("web-*".parse().unwrap()),
        ..PreheatTriggers::default()
    };
    let mut cluster = Cluster::with_triggers(Some(&registry), &listed, triggers).await;
    let nodes = nodes(&mut cluster, &["web-1", "web-2", "db-1"]).await;
    // Harbor's older driver names no scope, and its policies' default is the supernode alone.
    for (number, driver, scope, expected) in [
        (0, Driver::DragonflyBefore, None, [3, 3, 0]),
        (1, Driver::Dragonfly, Some("single_seed_peer"), [0, 0, 0]),
        (2, Driver::Dragonfly, Some("all_peers"), [3, 3, 3]),
        (3, Driver::Kraken, None, [3, 3, 0]),
    ] {
        let (image, digests) = image(&registry, &format!("v{number}"), 10 * number);
        let image = PreheatImage { scope, ..image };
        let harbor = instance(&cluster, driver, Auth::None);
        harbor.run(&image).await.unwrap();
        for (node, expected) in nodes.iter().zip(expected) {
            let held = held(node, &registry, &digests).await;
            assert_eq!(held, expected, "{driver:?} {scope:?}");
        }
    }
    let name = format!("{}/team/app:v0", registry.addr);
    let request = json!({"images": [name], "nodes": "mail-*"});
    let (_, job) = cluster.ask(Method::POST, "v1/preheat-jobs", &request).await;
    let job = wait_for(&cluster, job["id"].as_u64().unwrap(), "failure").await;
    assert!(job["cause"].as_str().unwrap().contains("mail-*"), "{job}");
    for request in [
        json!({"images": [name], "nodes": "["}),
        json!({"images": [name], "nodes": ""}),
    ] {
        let (status, answer) = cluster.ask(Method::POST, "v1/preheat-jobs", &request).await;
        assert_eq!(status, 400, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_at_the_nodes_after_a_restart() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let mut cluster = Cluster::start(Some(&registry), &listed).await;
    let nodes = nodes(&mut cluster, &["node-1", "node-2"]).await;
    let (image, digests) = image(&registry, "v1", 1);
    registry.lock().stalls = true;
    let image = PreheatImage {
        scope: Some("all_peers"),
        ..image
    };
    let harbor = instance(&cluster, Driver::Dragonfly, Auth::None);
    let id = harbor.preheat(&image).await.unwrap().id;
    cluster.restart(|| registry.lock().stalls = false).await;
    wait_for(&cluster, id.parse().unwrap(), "success").await;
    for node in &nodes {
        assert_eq!(held(node, &registry, &digests).await, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_only_what_was_ordered_of_it() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let mut cluster = Cluster::start(Some(&registry), &listed).await;
    let node = cluster.node_called("node-1").await;
    let (image, digests) = image(&registry, "v1", 1);
    let harbor = instance(&cluster, Driver::Dragonfly, Auth::None);
    let id = harbor.run(&image).await.unwrap().id;
    let peer_id = serde_json::to_value(node.engine().peer_id()).unwrap();
    for digest in &digests {
        let asked = json!({"node": "node-1", "peer_id": peer_id, "content": digest});
        let path = format!("v1/orders/{id}/swarms");
        let (_, answer) = cluster.ask(Method::POST, &path, &asked).await;
        assert_eq!(answer["outcome"], "refused", "{answer}");
        assert_eq!(answer["status"], 404, "{answer}");
    }
    for (path, body) in [
        ("v1/orders", json!({"node": "node-1", "peer_id": peer_id})),
        ("v1/orders/1/swarms", json!({})),
        ("v1/preheat-jobs", json!({"images": ["a.test/b"]})),
    ] {
        let url = cluster.supernode.join(path).unwrap();
        let stranger = reqwest::Client::new().post(url).json(&body).send().await;
        assert_eq!(stranger.unwrap().status(), 401, "{path}");
    }
    let (status, answer) = cluster
        .ask(
            Method::POST,
            "v1/orders",
            &json!({"node": "", "peer_id": peer_id}),
        )
        .await;
    assert_eq!(status, 400, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_store_a_layer_is_in_the_cause() {
    let registry = Registry::start().await;
    let listed = [format!("http://{}", registry.addr)];
    let mut cluster = Cluster::start(Some(&registry), &listed).await;
    let _well = nodes(&mut cluster, &["node-1"]).await;
    let small = cluster.node_with_quota("node-2", 1 << 20).await;
    small.accept_prefetch();
    let (image, _) = image(&registry, "v1", 1);
    let image = PreheatImage {
        scope: Some("all_peers"),
        ..image
    };
    let harbor = instance(&cluster, Driver::Dragonfly, Auth::None);
    let error = harbor.run(&image).await.unwrap_err();
    assert!(error.contains("at node node-2: sha256:"), "{error}");
    let (_, jobs) = cluster
        .ask(Method::GET, "v1/preheat-jobs", &Value::Null)
        .await;
    assert_eq!(jobs[0]["failed"], 1, "{jobs}");
}
