//! What the statistics tell is what went over the links.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flotilla_testbed::{Host, InterfaceBytes, pull_all, wait_until};
use flotilla_tests::{Cluster, ClusterPlan};
use serde_json::Value;

/// Large enough for what each pull costs beside its layers: manifests, tokens, announces.
const LAYERS: [u64; 4] = [40 << 20, 24 << 20, 12 << 20, 200 << 10];
/// Nodes tell of their last bytes with the announce that they are complete, and seeders within a
/// minute.
const REPORT_TIMEOUT: Duration = Duration::from_secs(90);

/// The API's answer, asked on the supernode's own machine.
fn api(cluster: &Cluster, path: &str) -> Result<Value> {
    let supernode = cluster.supernodes.first().context("no supernode")?;
    let host = &cluster.supernode_hosts[0];
    let (_, token) = cluster.flotilla.join_token();
    let mut curl = host.command("curl");
    curl.args(["--silent", "--show-error", "--fail", "--header"])
        .arg(format!("Authorization: Bearer {token}"))
        .arg(format!("{}/api/v1/{path}", supernode.url()));
    let output = curl.output().context("cannot run curl")?;
    ensure!(output.status.success(), "{path}: {output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn bytes(of: &Value, name: &str) -> u64 {
    of[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} in {of}"))
}

fn counters(hosts: &[Host]) -> Result<Vec<InterfaceBytes>> {
    hosts.iter().map(Host::interface_bytes).collect()
}

/// Blocks that came to a node twice are on the link as well.
fn wasted(cluster: &Cluster, node: &Value) -> Result<u64> {
    let id = node["id"].as_str().context("a node without id")?;
    let node = api(cluster, &format!("nodes/{id}?per_page=100"))?;
    let pulls = node["pulls"]["items"].as_array().context("no pulls")?;
    Ok(pulls.iter().map(|part| bytes(part, "wasted_bytes")).sum())
}

/// Panics unless both differ by at most two hundredths.
fn assert_close(what: &str, reported: u64, counted: u64) {
    println!("{what}: {reported} bytes reported, {counted} on the link");
    assert!(
        reported.abs_diff(counted) <= counted / 50,
        "{what}: the statistics report {reported} bytes, the link has carried {counted}"
    );
}

#[test]
fn the_statistics_tell_within_two_hundredths_what_the_links_have_carried() -> Result<()> {
    let mut cluster = Cluster::start(ClusterPlan {
        nodes: 4,
        ..ClusterPlan::default()
    })?;
    let image = cluster.images.image_of(&LAYERS)?;
    let reference = image.push(&cluster.registry, "demo/app", "1")?;
    let nodes_before = counters(&cluster.nodes)?;
    let supernode_before = cluster.supernode_hosts[0].interface_bytes()?;

    pull_all(&cluster.engines, &reference)?;

    let layers = image.layers.len() as u64;
    let all = cluster.nodes.len() as u64 * image.blob_bytes;
    let totals = wait_until(
        "every node has reported all its bytes",
        REPORT_TIMEOUT,
        || {
            let totals = api(&cluster, "totals")?;
            let sum = &totals["since_start"];
            let delivered = bytes(sum, "from_supernode_bytes") + bytes(sum, "from_peers_bytes");
            Ok((delivered >= all).then_some(totals))
        },
    )?;
    let sum = &totals["since_start"];
    let from_peers = bytes(sum, "from_peers_bytes");
    let supernode = cluster.supernode_hosts[0].interface_bytes()?;
    let supernode = supernode.since(supernode_before);
    assert!(from_peers > 0 && layers > 2, "{totals:#}");
    assert_close(
        "the supernode sends",
        bytes(sum, "from_supernode_bytes"),
        supernode.sent,
    );
    assert_close(
        "the supernode receives",
        bytes(sum, "from_registry_bytes"),
        supernode.received,
    );
    let list = api(&cluster, "nodes?sort=name")?;
    let items = list["items"].as_array().context("no nodes")?;
    assert_eq!(items.len(), cluster.nodes.len(), "{list:#}");
    let (mut received, mut sent) = (0, 0);
    for (host, before) in cluster.nodes.iter().zip(nodes_before) {
        let link = host.interface_bytes()?.since(before);
        let address = host.address().to_string();
        let of_host = |item: &&Value| {
            let reported = item["address"].as_str().unwrap_or_default();
            reported.starts_with(&format!("{address}:"))
        };
        let node = items.iter().find(of_host).context("a node is missing")?;
        let from = [
            "from_registry_bytes",
            "from_supernode_bytes",
            "from_peers_bytes",
        ];
        let reported: u64 = from.iter().map(|name| bytes(node, name)).sum();
        received += reported;
        let what = format!("{} receives", host.name());
        assert_close(&what, reported + wasted(&cluster, node)?, link.received);
        sent += bytes(node, "uploaded_bytes");
    }
    // What the nodes have sent to each other is what they have received from each other.
    assert_close("nodes send", sent, from_peers);
    assert_close("nodes receive", received, all);
    Ok(())
}
