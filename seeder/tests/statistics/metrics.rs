//! The metrics, as Prometheus' own checker sees them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use axum::http::header;

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_to_say() {
    let mut cluster = Cluster::start(3 << 20).await;
    let node = cluster.node("node").await;
    cluster.pull(&node).await;
    let seeders = |list: &serde_json::Value| list["items"][0]["seeders"] == 1;
    cluster.json_when("/api/v1/swarms", seeders).await;
    // The supernode looks at itself every second.
    let ingested =
        |totals: &serde_json::Value| totals["since_start"]["from_registry_bytes"] == cluster.length;
    cluster.json_when("/api/v1/totals", ingested).await;
    let answer = cluster
        .http
        .get(cluster.url("/metrics"))
        .send()
        .await
        .unwrap();
    let media_type = answer.headers()[header::CONTENT_TYPE].to_str().unwrap();
    assert_eq!(media_type, "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.unwrap();
    assert!(
        text.contains("flotilla_nodes{state=\"heard\"} 1\n"),
        "{text}"
    );
    let received = format!(
        "flotilla_supernode_registry_received_bytes_total {}\n",
        3 << 20
    );
    assert!(text.contains(&received), "{text}");
    let mut checker = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of the package prometheus");
    checker
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let said = checker.wait_with_output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr),
    );
    assert!(
        said.status.success() && out.is_empty() && err.is_empty(),
        "{out}{err}{text}"
    );
}
