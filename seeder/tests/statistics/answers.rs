//! What the API tells of a pull.

use axum::http::StatusCode;
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::cluster::{Cluster, DEADLINE};
use crate::schema::faults;

const NODES: u64 = 3;

async fn pulled() -> Cluster {
    let mut cluster = Cluster::start(6 << 20).await;
    for number in 1..=NODES {
        let node = cluster.node(&format!("node-{number}")).await;
        cluster.pull(&node).await;
    }
    let seeders = |list: &Value| list["items"][0]["seeders"] == NODES;
    cluster.json_when("/api/v1/swarms", seeders).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_a_pull_is_told_with_its_origin() {
    let cluster = pulled().await;
    let length = cluster.length;
    let delivered = |totals: &Value| {
        let bytes = |name: &str| totals["since_start"][name].as_u64().unwrap();
        bytes("from_supernode_bytes") + bytes("from_peers_bytes")
    };
    let totals = "/api/v1/totals";
    let totals = cluster
        .json_when(totals, |totals| {
            let ingested = &totals["since_start"]["from_registry_bytes"];
            delivered(totals) >= NODES * length && *ingested == length
        })
        .await;
    assert_eq!(delivered(&totals), NODES * length);
    for span in ["since_start", "last_hour", "last_day", "last_week"] {
        assert_eq!(totals[span]["from_registry_bytes"], length, "{span}");
        assert_eq!(totals[span]["saved_bytes"], (NODES - 1) * length, "{span}");
    }
    let charted: u64 = ["from_supernode_bytes", "from_peers_bytes"]
        .iter()
        .flat_map(|name| totals["chart"][name].as_array().unwrap())
        .map(|slot| slot.as_u64().unwrap())
        .sum();
    assert_eq!(charted, NODES * length);
    assert_eq!(
        (&totals["layers"], &totals["nodes"]),
        (&1.into(), &NODES.into())
    );

    let list = "/api/v1/swarms?sort=size&order=desc";
    let complete = |list: &Value| list["items"][0]["phase"] == "complete";
    let list = cluster.json_when(list, complete).await;
    let row = &list["items"][0];
    assert!(
        row["name"].as_str().unwrap().ends_with("/team/app"),
        "{row}"
    );
    assert_eq!(
        (&row["progress"], &row["phase"]),
        (&1.0.into(), &"complete".into())
    );
    assert_eq!(row["rarest_copies"], NODES + 1);
    let id = row["id"].as_str().unwrap();
    let swarm = cluster.json(&format!("/api/v1/swarms/{id}")).await;
    let copies = swarm["map"]["copies"].as_array().unwrap();
    assert_eq!(copies.len() as u64, row["pieces"].as_u64().unwrap());
    assert!(copies.iter().all(|copies| *copies == NODES + 1));
    let edges = swarm["edges"].as_array().unwrap().iter();
    let sent: u64 = edges.map(|edge| edge["bytes"].as_u64().unwrap()).sum();
    assert_eq!(sent, NODES * length);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_traffic_of_the_last_week_outlives_the_supernode() {
    let mut cluster = pulled().await;
    let totals = "/api/v1/totals";
    let is_counted = |totals: &Value| totals["last_week"]["saved_bytes"] == (NODES - 1) * (6 << 20);
    let before = cluster.json_when(totals, is_counted).await;
    cluster.restart().await;
    let after = cluster.json(totals).await;
    for span in ["last_hour", "last_day", "last_week"] {
        assert_eq!(after[span], before[span], "{span}");
    }
    assert_eq!(after["since_start"]["saved_bytes"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_as_the_openapi_document_says() {
    let cluster = pulled().await;
    let document = cluster.json("/api/v1/openapi.json").await;
    let first = async |list: &str| {
        let list = cluster.json(&format!("/api/v1/{list}")).await;
        list["items"][0]["id"].as_str().unwrap().to_owned()
    };
    let (swarm, node) = (first("swarms").await, first("nodes").await);
    let mut chosen = 0;
    for (path, id) in [
        ("/api/v1/totals", ""),
        ("/api/v1/swarms", ""),
        ("/api/v1/swarms/{id}", swarm.as_str()),
        ("/api/v1/nodes", ""),
        ("/api/v1/nodes/{id}", node.as_str()),
        ("/api/v1/cluster", ""),
    ] {
        let described = &document["paths"][path]["get"];
        let schema = &described["responses"]["200"]["content"]["application/json"]["schema"];
        let asked = path.replace("{id}", id);
        let answer = cluster.json(&asked).await;
        let wrong = faults(&document, schema, &answer, path);
        assert!(wrong.is_empty(), "{wrong:#?}");
        // Each way to sort that is described is understood, and no other.
        let parameters = described["parameters"].as_array().into_iter().flatten();
        for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
            for value in parameter["schema"]["enum"].as_array().into_iter().flatten() {
                let (name, value) = (&parameter["name"], value.as_str().unwrap());
                let name = name.as_str().unwrap();
                cluster.json(&format!("{asked}?{name}={value}")).await;
                let other = cluster.url(&format!("{asked}?{name}={value}x"));
                let refused = cluster.http.get(other).send().await.unwrap();
                assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{asked} {name}");
                chosen += 1;
            }
        }
    }
    assert_eq!(chosen, 4 + 11 + 8 + 14 + 8 + 4 * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_has_the_names_of_its_images_few_and_short_whatever_a_node_calls_them() {
    let mut cluster = Cluster::start(3 << 20).await;
    let (first, second) = (cluster.node("node-1").await, cluster.node("node-2").await);
    // Pulled by digest only.
    cluster.pull(&first).await;
    let here = |list: &Value| list["total"] == 1;
    let list = cluster.json_when("/api/v1/swarms", here).await;
    assert_eq!(list["items"][0]["images"], serde_json::json!([]));

    let hostile = "<img src=x onerror=alert(1)>\u{202e}".to_owned();
    let mut images = vec!["reg.test/team/app:1.0".to_owned(), hostile.clone()];
    images.push("n".repeat(10_000));
    images.extend((0..30).map(|number| format!("reg.test/other:{number}")));
    cluster.pull_for(&second, &images).await;
    let named = |list: &Value| list["items"][0]["images"][0] == images[0];
    let list = cluster.json_when("/api/v1/swarms", named).await;
    let shown = list["items"][0]["images"].as_array().unwrap();
    assert_eq!((shown.len(), &shown[1]), (8, &hostile.into()));
    assert_eq!(shown[2], "n".repeat(255));
    for (searched, found) in [("app:1.0", 1), ("ONERROR", 1), ("other:29", 0)] {
        let list = cluster.json(&format!("/api/v1/swarms?q={searched}")).await;
        assert_eq!(list["total"], found, "{searched}");
    }
    let id = list["items"][0]["id"].as_str().unwrap();
    let swarm = cluster.json(&format!("/api/v1/swarms/{id}")).await;
    assert_eq!(swarm["images"], list["items"][0]["images"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_so() {
    let cluster = Cluster::start(3 << 20).await;
    let document = cluster.json("/api/v1/openapi.json").await;
    let schema = &document["components"]["schemas"]["Error"];
    let unknown = "00".repeat(20);
    for (path, status) in [
        (format!("/api/v1/swarms/{unknown}"), StatusCode::NOT_FOUND),
        (format!("/api/v1/nodes/{unknown}"), StatusCode::NOT_FOUND),
        ("/api/v1/nodes/x".to_owned(), StatusCode::BAD_REQUEST),
        ("/api/v1/jobs/7".to_owned(), StatusCode::NOT_FOUND),
        ("/api/v1/jobs/x".to_owned(), StatusCode::BAD_REQUEST),
        ("/api/v1/else".to_owned(), StatusCode::NOT_FOUND),
        (
            "/api/v1/events?view=else".to_owned(),
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let answer = cluster.http.get(cluster.url(&path)).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let said: Value = answer.json().await.unwrap();
        let wrong = faults(&document, schema, &said, &path);
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(
            said["error"]
                .as_str()
                .is_some_and(|error| !error.is_empty())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_what_the_api_tells_and_ends_with_the_supernode() {
    let cluster = pulled().await;
    let query = "sort=name&order=desc&per_page=2";
    let url = cluster.url(&format!("/api/v1/events?view=nodes&{query}"));
    let answer = cluster.http.get(url).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut parts = answer.bytes_stream();
    let first = tokio::time::timeout(DEADLINE, parts.next()).await.unwrap();
    let first = String::from_utf8(first.unwrap().unwrap().to_vec()).unwrap();
    let event: Value = serde_json::from_str(first.trim().strip_prefix("data: ").unwrap()).unwrap();
    let list = cluster.json(&format!("/api/v1/nodes?{query}")).await;
    let names = |list: &Value| -> Vec<Value> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|row| row["name"].clone()).collect()
    };
    assert_eq!(names(&event["view"]), ["node-3", "node-2"]);
    assert_eq!(names(&event["view"]), names(&list));
    assert_eq!(event["totals"]["nodes"], NODES);
    cluster.stop.cancel();
    let rest = async { while let Some(Ok(_)) = parts.next().await {} };
    let ended = tokio::time::timeout(DEADLINE, rest).await;
    assert!(ended.is_ok(), "the stream holds the supernode up");
}
