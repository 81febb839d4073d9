//! The supernode's metrics. Their labels have a handful of values, whatever the cluster's size.

use std::time::Instant;

use flotilla_cluster::exposition::{Exposition, Kind};

use crate::stats::Statistics;
use crate::stats::views::rows::SwarmPhase;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// All of them, as text.
pub(crate) fn supernode(statistics: &Statistics, now: Instant) -> String {
    let rows = statistics.rows(now);
    let mut out = Exposition::default();
    let version = [("version", VERSION, 1)];
    let help = "The version that runs.";
    out.labelled(Kind::Gauge, "flotilla_supernode_build_info", help, version);
    let (own, traffic, uptime) = statistics.with(|cluster| {
        let uptime = now.saturating_duration_since(cluster.started).as_secs();
        (cluster.own.clone(), cluster.history.since_start(), uptime)
    });
    out.single(
        Kind::Gauge,
        "flotilla_supernode_uptime_seconds",
        "Seconds since the start.",
        uptime,
    );
    out.labelled(
        Kind::Counter,
        "flotilla_delivered_bytes_total",
        "Bytes that reached nodes, by where they came from.",
        [
            ("origin", "registry", traffic.bypassed),
            ("origin", "supernode", traffic.from_supernode),
            ("origin", "peers", traffic.from_peers),
        ],
    );
    out.single(
        Kind::Counter,
        "flotilla_supernode_registry_received_bytes_total",
        "Bytes that the supernode read from registries.",
        own.source_bytes,
    );
    out.single(
        Kind::Counter,
        "flotilla_supernode_registry_requests_total",
        "Requests that the supernode sent to registries.",
        own.source_requests,
    );
    out.single(
        Kind::Counter,
        "flotilla_supernode_sent_bytes_total",
        "Bytes of pieces that the supernode sent.",
        own.uploaded,
    );
    let phase = |phase| count(rows.swarms.iter().filter(|row| row.phase == phase).count());
    out.labelled(
        Kind::Gauge,
        "flotilla_swarms",
        "Swarms, by how far they are on the supernode.",
        [
            ("phase", "arriving", phase(SwarmPhase::Arriving)),
            ("phase", "complete", phase(SwarmPhase::Complete)),
            ("phase", "elsewhere", phase(SwarmPhase::Elsewhere)),
        ],
    );
    let sum = |of: fn(&crate::stats::views::rows::SwarmRow) -> u32| -> u64 {
        rows.swarms.iter().map(|row| u64::from(of(row))).sum()
    };
    out.labelled(
        Kind::Gauge,
        "flotilla_swarm_members",
        "Parts of nodes in swarms.",
        [
            ("state", "seeder", sum(|row| row.seeders)),
            ("state", "leecher", sum(|row| row.leechers)),
        ],
    );
    let stalled = rows.swarms.iter();
    let stalled = stalled.filter(|row| row.leechers > 0 && row.download_bytes_per_second == 0);
    out.single(
        Kind::Gauge,
        "flotilla_stalled_swarms",
        "Swarms that nodes lack something of and in which nothing moves.",
        count(stalled.count()),
    );
    let heard = count(rows.nodes.iter().filter(|node| node.is_heard).count());
    out.labelled(
        Kind::Gauge,
        "flotilla_nodes",
        "Nodes of the last hour, by whether they still announce themselves.",
        [
            ("state", "heard", heard),
            (
                "state",
                "silent",
                count(rows.nodes.len()).saturating_sub(heard),
            ),
        ],
    );
    out.single(
        Kind::Gauge,
        "flotilla_supernode_shunned_peers",
        "Peers that the supernode shuns.",
        own.shunned.into(),
    );
    out.single(
        Kind::Gauge,
        "flotilla_supernode_cache_bytes",
        "Bytes of layers on the supernode's disk.",
        own.cache,
    );
    out.single(
        Kind::Gauge,
        "flotilla_supernode_cache_quota_bytes",
        "Bytes that layers may take there.",
        own.cache_quota,
    );
    out.into_text()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
