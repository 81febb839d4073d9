//! The answers: the API gives each once, an event stream again and again.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::extract::Query;
use axum::http::Uri;
use flotilla_torrents::{InfoHash, PeerId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::job_rows::{self, JobKey};
use super::listing::{Choice, NodeKey, Page, PartKey, SwarmKey};
use super::rows::{self, Edge, NodeParts, NodeRow, PartRow, PieceMapView, SwarmRow};
use super::schema::Id;
use crate::preheat::jobs::JobId;
use crate::stats::observer::Statistics;
use crate::stats::state::traffic::{Chart, Span, TrafficBytes, TrafficRate};
use crate::stats::web::Web;

/// Supernodes that are shown at most: what members report is bounded, what all of them say is not.
const MAX_SUPERNODES: usize = 64;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum View {
    Totals(Span),
    Swarms(Choice<SwarmKey>),
    Swarm(InfoHash, Choice<PartKey>),
    Nodes(Choice<NodeKey>),
    Node(PeerId, Choice<PartKey>),
    Jobs(Choice<JobKey>),
    Job(JobId),
    Cluster,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error("{0}")]
    Query(String),
    #[error("no such view: expected totals, swarms, swarm, nodes, node, jobs, job or cluster")]
    Kind,
    #[error("a swarm or node is named by 40 hexadecimal digits")]
    Id,
    #[error("a preheat job is named by a number")]
    JobId,
    #[error("not known here, or no longer")]
    Unknown,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(in crate::stats) struct SpanChoice {
    /// How far back the chart looks; live is ten minutes.
    #[param(inline)]
    span: Span,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ViewName {
    view: String,
    id: String,
}

impl View {
    /// What [`named`](Self::named) understands.
    pub(crate) const NAMES: [&str; 8] = [
        "totals", "swarms", "swarm", "nodes", "node", "jobs", "job", "cluster",
    ];

    /// The view that the parameters `view` and `id` name, with its own parameters.
    pub(crate) fn from_query(uri: &Uri) -> Result<Self, ViewError> {
        let ViewName { view, id } = query(uri)?;
        Self::named(&view, &id, uri)
    }

    pub(crate) fn named(view: &str, id: &str, uri: &Uri) -> Result<Self, ViewError> {
        Ok(match view {
            "totals" | "" => Self::Totals(query::<SpanChoice>(uri)?.span),
            "swarms" => Self::Swarms(query(uri)?),
            "swarm" => Self::Swarm(id.parse().map_err(|_| ViewError::Id)?, query(uri)?),
            "nodes" => Self::Nodes(query(uri)?),
            "node" => Self::Node(id.parse().map_err(|_| ViewError::Id)?, query(uri)?),
            "jobs" => Self::Jobs(query(uri)?),
            "job" => Self::Job(JobId(id.parse().map_err(|_| ViewError::JobId)?)),
            "cluster" => Self::Cluster,
            _ => return Err(ViewError::Kind),
        })
    }

    /// The answer. Takes some ten milliseconds of CPU with ten thousand nodes.
    pub(crate) fn answer(&self, web: &Web, now: Instant) -> Result<Value, ViewError> {
        let statistics = &web.statistics;
        match self {
            Self::Totals(span) => json(&totals(web, now, *span)),
            Self::Swarms(choice) => json(&choice.of(&statistics.rows(now).swarms)),
            Self::Nodes(choice) => json(&choice.of(&statistics.rows(now).nodes)),
            Self::Swarm(id, choice) => json(&swarm(statistics, now, id, choice)?),
            Self::Node(id, choice) => json(&node(statistics, now, id, choice)?),
            Self::Jobs(choice) => json(&choice.of(&web.jobs.rows(now))),
            Self::Job(id) => {
                let job = job_rows::job(&web.jobs.jobs, *id);
                json(&job.ok_or(ViewError::Unknown)?)
            }
            Self::Cluster => json(&cluster(statistics, now)),
        }
    }
}

fn query<T: serde::de::DeserializeOwned>(uri: &Uri) -> Result<T, ViewError> {
    match Query::try_from_uri(uri) {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(ViewError::Query(rejection.body_text())),
    }
}

fn json(answer: &impl Serialize) -> Result<Value, ViewError> {
    serde_json::to_value(answer).map_err(|error| ViewError::Query(error.to_string()))
}

#[derive(Debug, Serialize, ToSchema)]
pub(in crate::stats) struct Totals {
    version: &'static str,
    uptime_seconds: u64,
    /// Layers on this supernode.
    layers: usize,
    complete_layers: usize,
    /// Contents so small that they came with the answer, by answers.
    small_contents: u64,
    swarms: usize,
    nodes: usize,
    /// Nodes of the last hour that no longer announce themselves.
    silent_nodes: usize,
    seeders: u64,
    leechers: u64,
    /// Preheat jobs that wait or run.
    unfinished_jobs: usize,
    registry_requests: u64,
    cache_bytes: u64,
    cache_quota_bytes: u64,
    now: TrafficRate,
    since_start: TrafficBytes,
    last_hour: TrafficBytes,
    last_day: TrafficBytes,
    last_week: TrafficBytes,
    chart: Chart,
}

fn totals(web: &Web, now: Instant, span: Span) -> Totals {
    let statistics = &web.statistics;
    let rows = statistics.rows(now);
    let silent_nodes = rows.nodes.iter().filter(|node| !node.is_heard).count();
    let sum = |of: fn(&SwarmRow) -> u32| rows.swarms.iter().map(|row| u64::from(of(row))).sum();
    let (seeders, leechers) = (sum(|row| row.seeders), sum(|row| row.leechers));
    let unfinished_jobs = web.jobs.unfinished(now);
    statistics.with(|cluster| {
        let own = || {
            cluster
                .swarms
                .values()
                .filter_map(|swarm| swarm.own.as_ref())
        };
        Totals {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: now.saturating_duration_since(cluster.started).as_secs(),
            layers: own().count(),
            complete_layers: own().filter(|own| own.complete).count(),
            small_contents: cluster.small_contents,
            swarms: rows.swarms.len(),
            nodes: rows.nodes.len() - silent_nodes,
            silent_nodes,
            seeders,
            leechers,
            unfinished_jobs,
            registry_requests: cluster.own.source_requests,
            cache_bytes: cluster.own.cache,
            cache_quota_bytes: cluster.own.cache_quota,
            now: cluster.history.rate(now),
            since_start: cluster.history.since_start().into(),
            last_hour: cluster.history.sum(now, Span::Hour).into(),
            last_day: cluster.history.sum(now, Span::Day).into(),
            last_week: cluster.history.sum(now, Span::Week).into(),
            chart: cluster.history.chart(now, span),
        }
    })
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Swarm)]
pub(in crate::stats) struct SwarmView {
    #[serde(flatten)]
    row: SwarmRow,
    /// What this supernode sent of it.
    uploaded_bytes: u64,
    registry_reasons: Vec<Reason>,
    map: PieceMapView,
    peers: Page<PartRow>,
    /// Bytes sent from peer to peer; the largest 200.
    edges: Vec<Edge>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Reason {
    reason: String,
    times: u64,
}

fn swarm(
    statistics: &Statistics,
    now: Instant,
    id: &InfoHash,
    choice: &Choice<PartKey>,
) -> Result<SwarmView, ViewError> {
    statistics.with(|cluster| {
        let swarm = cluster.swarms.get(id).ok_or(ViewError::Unknown)?;
        let members = swarm.members.iter();
        let parts = members
            .map(|(peer, member)| rows::part_row(now, cluster, (*id, swarm), (*peer, member)));
        let parts: Vec<PartRow> = parts.collect();
        let reasons = swarm.registry_reasons.iter();
        Ok(SwarmView {
            row: rows::swarm_row(*id, swarm),
            uploaded_bytes: swarm.own.as_ref().map_or(0, |own| own.uploaded),
            registry_reasons: reasons
                .map(|(reason, times)| Reason {
                    reason: reason.clone(),
                    times: *times,
                })
                .collect(),
            map: rows::piece_map(swarm),
            peers: choice.of(&parts),
            edges: rows::edges(cluster, swarm, &statistics.peer_id()),
        })
    })
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Node)]
pub(in crate::stats) struct NodeView {
    #[serde(flatten)]
    row: NodeRow,
    /// Since the node's program started.
    from_registry_since_start_bytes: u64,
    #[schema(required)]
    upload_limit_bytes_per_second: Option<u64>,
    #[schema(required)]
    download_limit_bytes_per_second: Option<u64>,
    supernodes: Vec<SupernodeOfNode>,
    pulls: Page<PartRow>,
}

#[derive(Debug, Serialize, ToSchema)]
struct SupernodeOfNode {
    url: String,
    is_reachable: bool,
}

fn node(
    statistics: &Statistics,
    now: Instant,
    id: &PeerId,
    choice: &Choice<PartKey>,
) -> Result<NodeView, ViewError> {
    statistics.with(|cluster| {
        let node = cluster.nodes.get(id).ok_or(ViewError::Unknown)?;
        let swarms = cluster.swarms.iter();
        let parts = swarms.filter_map(|(swarm, entry)| {
            let member = entry.members.get(id)?;
            Some(rows::part_row(now, cluster, (*swarm, entry), (*id, member)))
        });
        let parts: Vec<PartRow> = parts.collect();
        let supernodes = node.host.supernodes.iter();
        Ok(NodeView {
            row: rows::node_row(now, *id, node, NodeParts::of(cluster, id)),
            from_registry_since_start_bytes: node.host.from_registry,
            upload_limit_bytes_per_second: node.host.upload_rate,
            download_limit_bytes_per_second: node.host.download_rate,
            supernodes: supernodes
                .map(|seen| SupernodeOfNode {
                    url: seen.url.clone(),
                    is_reachable: seen.reachable,
                })
                .collect(),
            pulls: choice.of(&parts),
        })
    })
}

#[derive(Debug, Serialize, ToSchema)]
pub(in crate::stats) struct Cluster {
    version: &'static str,
    #[schema(value_type = Id)]
    peer_id: PeerId,
    uptime_seconds: u64,
    shunned_peers: u32,
    cache_bytes: u64,
    cache_quota_bytes: u64,
    uploaded_bytes: u64,
    /// As the nodes know them, this one included.
    supernodes: Vec<SupernodeRow>,
}

#[derive(Debug, Serialize, ToSchema)]
struct SupernodeRow {
    url: String,
    /// Nodes that it answered the last time.
    reached_by: u32,
    /// Nodes that it did not answer.
    missed_by: u32,
}

fn cluster(statistics: &Statistics, now: Instant) -> Cluster {
    statistics.with(|cluster| {
        let mut seen: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        let nodes = cluster.nodes.values().filter(|node| !node.is_silent(now));
        for supernode in nodes.flat_map(|node| &node.host.supernodes) {
            if seen.len() < MAX_SUPERNODES || seen.contains_key(supernode.url.as_str()) {
                let (reached, missed) = seen.entry(&supernode.url).or_default();
                *if supernode.reachable { reached } else { missed } += 1;
            }
        }
        let own = &cluster.own;
        Cluster {
            version: env!("CARGO_PKG_VERSION"),
            peer_id: statistics.peer_id(),
            uptime_seconds: now.saturating_duration_since(cluster.started).as_secs(),
            shunned_peers: own.shunned,
            cache_bytes: own.cache,
            cache_quota_bytes: own.cache_quota,
            uploaded_bytes: own.uploaded,
            supernodes: seen
                .into_iter()
                .map(|(url, (reached_by, missed_by))| SupernodeRow {
                    url: url.to_owned(),
                    reached_by,
                    missed_by,
                })
                .collect(),
        }
    })
}
