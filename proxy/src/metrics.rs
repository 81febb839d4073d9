//! A node's metrics for Prometheus.

use std::sync::atomic::Ordering;

use flotilla_client::Node;
use flotilla_cluster::exposition::{Exposition, Kind};

use crate::marks::Mark;
use crate::stats::ProxyStats;

/// The metrics of proxy and node, in Prometheus' text format.
pub fn metrics(stats: &ProxyStats, node: &Node) -> String {
    let mut out = Exposition::default();
    proxy(&mut out, stats);
    swarms(&mut out, node);
    out.into_text()
}

fn proxy(out: &mut Exposition, stats: &ProxyStats) {
    let counts = stats.counts();
    let version = [("version", env!("CARGO_PKG_VERSION"), 1)];
    let help = "The version that runs.";
    out.labelled(Kind::Gauge, "flotilla_proxy_build_info", help, version);
    out.labelled(
        Kind::Counter,
        "flotilla_proxy_layer_bytes_total",
        "Bytes of layers given to engines: from the swarm or the disk, or from the registry in its place.",
        [
            ("origin", "swarm", counts.swarm_bytes),
            ("origin", "registry", counts.fallback_bytes),
        ],
    );
    for (name, help, value) in [
        (
            "flotilla_proxy_layers_total",
            "Layers that engines asked for and that the swarm or the disk began to deliver.",
            counts.layers,
        ),
        (
            "flotilla_proxy_fallbacks_total",
            "Times that the registry took over in the response of such a layer.",
            counts.fallbacks,
        ),
        (
            "flotilla_proxy_passed_requests_total",
            "Requests that passed through to their target.",
            counts.passes,
        ),
        (
            "flotilla_proxy_kept_layers_total",
            "Layers that seed from what was kept of their push.",
            counts.kept,
        ),
    ] {
        out.single(Kind::Counter, name, help, value);
    }
    out.labelled(
        Kind::Counter,
        "flotilla_proxy_marks_total",
        "Fallbacks, refusals and degradations, by the names that docs/marks.md explains.",
        Mark::ALL
            .iter()
            .map(|mark| ("event", mark.name(), stats.marked(*mark))),
    );
}

fn swarms(out: &mut Exposition, node: &Node) {
    let engine = node.engine();
    let counters = engine.counters();
    let received = counters.received.load(Ordering::Relaxed);
    let from_supernodes = counters.from_supernodes.load(Ordering::Relaxed);
    out.labelled(
        Kind::Counter,
        "flotilla_node_received_bytes_total",
        "Bytes of pieces received, by sender.",
        [
            ("origin", "supernode", from_supernodes),
            ("origin", "peers", received.saturating_sub(from_supernodes)),
        ],
    );
    out.single(
        Kind::Counter,
        "flotilla_node_sent_bytes_total",
        "Bytes of pieces sent to peers.",
        counters.uploaded.load(Ordering::Relaxed),
    );
    out.single(
        Kind::Counter,
        "flotilla_node_wasted_bytes_total",
        "Bytes received for nothing: duplicates and corrupt pieces.",
        counters.wasted.load(Ordering::Relaxed),
    );
    let swarms = engine.swarms();
    let complete = swarms.iter().filter(|swarm| swarm.status().complete);
    let complete = count(complete.count());
    out.labelled(
        Kind::Gauge,
        "flotilla_node_swarms",
        "Swarms that run on the node.",
        [
            ("state", "complete", complete),
            (
                "state",
                "incomplete",
                count(swarms.len()).saturating_sub(complete),
            ),
        ],
    );
    let supernodes = node.supernodes();
    let reachable = supernodes.iter().filter(|supernode| supernode.reachable);
    let reachable = count(reachable.count());
    out.labelled(
        Kind::Gauge,
        "flotilla_node_supernodes",
        "Supernodes that the node knows, by whether they answered the last time.",
        [
            ("state", "reachable", reachable),
            (
                "state",
                "unreachable",
                count(supernodes.len()).saturating_sub(reachable),
            ),
        ],
    );
    out.single(
        Kind::Gauge,
        "flotilla_node_shunned_peers",
        "Peers that the node shuns.",
        count(engine.shunned()),
    );
    out.single(
        Kind::Gauge,
        "flotilla_node_cache_bytes",
        "Bytes of layers on the node's disk.",
        engine.store().bytes(),
    );
    out.single(
        Kind::Gauge,
        "flotilla_node_cache_quota_bytes",
        "Bytes that layers may take there.",
        engine.store().quota(),
    );
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
