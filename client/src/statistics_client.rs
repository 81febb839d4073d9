//! Asks a supernode for its statistics.

use serde::Deserialize;
use url::Url;

use crate::supernode_client::{Supernode, SupernodeError, Supernodes};

/// What `/api/v1/totals` tells, as far as programs here show it. What an older supernode leaves out
/// is 0.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// The supernode's version.
    pub version: String,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Layers on it.
    pub layers: u64,
    /// Nodes that announce themselves.
    pub nodes: u64,
    /// Nodes that no longer do.
    pub silent_nodes: u64,
    /// Swarms.
    pub swarms: u64,
    /// Downloads under way.
    pub leechers: u64,
    /// In the last hour.
    pub last_hour: Traffic,
    /// In the last day.
    pub last_day: Traffic,
    /// Since its start.
    pub since_start: Traffic,
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
    /// Bytes.
    pub size_bytes: u64,
    /// Nodes that have everything.
    pub seeders: u64,
    /// Nodes that lack something.
    pub leechers: u64,
    /// Mean over the nodes, 0 to 1.
    pub progress: f64,
    /// Bytes per second, over all nodes.
    pub download_bytes_per_second: u64,
    /// Until all nodes have it.
    pub time_left_seconds: Option<u64>,
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
    let supernodes = Supernodes::new(std::slice::from_ref(supernode), token);
    let unreachable = |reason: String| SupernodeError::Unreachable {
        supernode: supernode.clone(),
        reason,
    };
    let supernodes = supernodes.map_err(|error| unreachable(error.to_string()))?;
    let [supernode]: &[Supernode; 1] = supernodes
        .all()
        .try_into()
        .map_err(|_| unreachable("it has no name".to_owned()))?;
    let totals = supernode.statistics("api/v1/totals", "").await?;
    let query = format!("sort=rate&order=desc&per_page={swarms}");
    let swarms = supernode.statistics("api/v1/swarms", &query).await?;
    Ok((totals, swarms))
}
