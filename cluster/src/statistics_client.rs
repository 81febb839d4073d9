//! Asks a supernode for its statistics.

use serde::Deserialize;
use url::Url;

use crate::supernode_client::{Supernode, SupernodeError, Supernodes};

/// What `/api/v1/totals` tells, as far as programs here show it. What is left out is 0.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// The supernode's version.
    pub version: String,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Layers on it.
    pub layers: u64,
    /// Of these, those that are there whole.
    pub complete_layers: u64,
    /// Nodes that announce themselves.
    pub nodes: u64,
    /// Nodes that no longer do.
    pub silent_nodes: u64,
    /// Swarms.
    pub swarms: u64,
    /// Downloads under way.
    pub leechers: u64,
    /// At present.
    pub now: Rates,
    /// In the last hour.
    pub last_hour: Traffic,
    /// In the last day.
    pub last_day: Traffic,
    /// Since its start.
    pub since_start: Traffic,
    /// The last ten minutes.
    pub chart: Chart,
}

/// Bytes per second by origin.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// From registries.
    pub from_registry_bytes_per_second: u64,
    /// From supernodes.
    pub from_supernode_bytes_per_second: u64,
    /// From other nodes.
    pub from_peers_bytes_per_second: u64,
}

/// Bytes over time by origin, a number for each slot, oldest first; the last slot is still being
/// filled.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Chart {
    /// Length of a slot.
    pub slot_seconds: u64,
    /// From registries.
    pub from_registry_bytes: Vec<u64>,
    /// From supernodes.
    pub from_supernode_bytes: Vec<u64>,
    /// From other nodes.
    pub from_peers_bytes: Vec<u64>,
}

/// Bytes by origin.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// From registries.
    pub from_registry_bytes: u64,
    /// From supernodes.
    pub from_supernode_bytes: u64,
    /// From other nodes.
    pub from_peers_bytes: u64,
    /// What registries would have sent more without the swarms.
    pub saved_bytes: u64,
}

/// A page of a list.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct List<T> {
    /// Rows on all pages.
    pub total: u64,
    /// The number of this page, from 1 on.
    #[serde(default)]
    pub page: u64,
    /// Pages.
    #[serde(default)]
    pub pages: u64,
    /// Those of this one.
    pub items: Vec<T>,
}

/// One swarm.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Swarm {
    /// Registry and repository, or the URL.
    pub name: String,
    /// Its digest.
    pub content: String,
    /// Where it is on the supernode: `arriving`, `complete` or `elsewhere`.
    pub phase: String,
    /// Bytes.
    pub size_bytes: u64,
    /// Nodes that have everything.
    pub seeders: u64,
    /// Nodes that lack something.
    pub leechers: u64,
    /// Mean over the nodes, 0 to 1.
    pub progress: f64,
    /// Copies of the piece that fewest have, the supernode's included.
    pub rarest_copies: u64,
    /// Bytes per second, over all nodes.
    pub download_bytes_per_second: u64,
    /// Until all nodes have it.
    pub time_left_seconds: Option<u64>,
    /// What the supernode itself read of it from the registry.
    pub first_copy_bytes: u64,
    /// What nodes most often took bytes from the registry for.
    pub registry_reason: Option<String>,
}

/// One node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where its peers find it.
    pub address: Option<String>,
    /// Its version.
    pub version: String,
    /// False: it has not announced itself for longer than it should.
    pub is_heard: bool,
    /// Since its last announce.
    pub last_heard_seconds: u64,
    /// Swarms that it is in.
    pub swarms: u64,
    /// Bytes per second that it receives.
    pub download_bytes_per_second: u64,
    /// Bytes per second that it sends.
    pub upload_bytes_per_second: u64,
    /// Bytes in its cache.
    pub cache_bytes: u64,
}

/// Asks one supernode, again and again.
#[derive(Clone, Debug)]
pub struct StatisticsClient(Supernode);

impl StatisticsClient {
    /// A client of `supernode` that shows `token`.
    ///
    /// # Errors
    /// The system's TLS cannot be used.
    pub fn new(supernode: &Url, token: Option<&str>) -> Result<Self, SupernodeError> {
        let unreachable = |reason: String| SupernodeError::Unreachable {
            supernode: supernode.clone(),
            reason,
        };
        let supernodes = Supernodes::new(std::slice::from_ref(supernode), token);
        let supernodes = supernodes.map_err(|error| unreachable(error.to_string()))?;
        let first = supernodes.all().first().cloned();
        first
            .map(Self)
            .ok_or_else(|| unreachable("it has no name".to_owned()))
    }

    /// What it tells of all that it knows. Answers or fails within a few seconds.
    ///
    /// # Errors
    /// It cannot be reached, refuses the token, or answers something else.
    pub async fn totals(&self) -> Result<Totals, SupernodeError> {
        self.0.statistics("api/v1/totals", "").await
    }

    /// The swarms that `query` asks for, its parameters as `/api/v1/openapi.json` describes them.
    ///
    /// # Errors
    /// As [`Self::totals`].
    pub async fn swarms(&self, query: &str) -> Result<List<Swarm>, SupernodeError> {
        self.0.statistics("api/v1/swarms", query).await
    }

    /// The nodes that `query` asks for.
    ///
    /// # Errors
    /// As [`Self::totals`].
    pub async fn nodes(&self, query: &str) -> Result<List<Node>, SupernodeError> {
        self.0.statistics("api/v1/nodes", query).await
    }
}

/// The totals of a supernode, and those of its swarms that move most.
///
/// # Errors
/// It cannot be reached, refuses the token, or answers something else.
pub async fn statistics(
    supernode: &Url,
    token: Option<&str>,
    swarms: u32,
) -> Result<(Totals, List<Swarm>), SupernodeError> {
    let client = StatisticsClient::new(supernode, token)?;
    let totals = client.totals().await?;
    let query = format!("sort=rate&order=desc&per_page={swarms}");
    Ok((totals, client.swarms(&query).await?))
}
