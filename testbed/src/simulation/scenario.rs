//! What a simulation plays, as a small TOML file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_client::swarm::SwarmConfig;
use flotilla_torrents::Geometry;
use serde::Deserialize;

/// Hosts, links and happenings of one simulation.
///
/// # Defaults
/// 20 nodes of 50 Mbit/s, 64 MiB, a supernode of 50 Mbit/s, a source that is not limited.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// What the scenario shows, in a few words.
    pub title: String,
    /// Everything random follows from it.
    pub seed: u64,
    /// The content's length in MiB.
    pub mib: f64,
    /// Its piece length in KiB; default: what flotilla chooses for the length.
    pub piece_kib: Option<u32>,
    /// The supernode's uplink in Mbit/s.
    pub supernode_mbit: f64,
    /// The rate in Mbit/s at which the content arrives at the supernode; default: it is there.
    pub source_mbit: Option<f64>,
    /// Half of a round trip in milliseconds between two hosts of one zone.
    pub latency_ms: f64,
    /// What the headers of TCP, IP and Ethernet add to each byte, in percent.
    pub header_percent: f64,
    /// Seconds between the arrivals of two nodes; 0: all within a tenth of a second.
    pub arrival_s: f64,
    /// A node leaves as soon as it has everything.
    pub leave_when_complete: bool,
    /// An engine reads the content in order on each node.
    pub read_in_order: bool,
    /// Connections that a node opens.
    pub dials: usize,
    /// The simulation fails when it is not done after these virtual seconds.
    pub limit_s: f64,
    /// Sites between which there is one link each way.
    pub zones: Vec<Zone>,
    /// The nodes.
    pub nodes: Vec<Group>,
    /// Values of the hosts' state machines that differ from those of production.
    pub swarm: Tuning,
}

/// Values of [`SwarmConfig`] to try others for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tuning {
    /// [`SwarmConfig::min_in_sockets`] in KiB.
    pub min_in_sockets_kib: Option<u64>,
    /// [`SwarmConfig::socket_time`] in milliseconds.
    pub socket_ms: Option<u64>,
    /// [`SwarmConfig::min_pipeline`] in KiB.
    pub min_pipeline_kib: Option<u64>,
    /// [`SwarmConfig::first_pipeline`] in KiB.
    pub first_pipeline_kib: Option<u64>,
    /// [`SwarmConfig::pipeline_time`] in milliseconds.
    pub pipeline_ms: Option<u64>,
    /// [`SwarmConfig::min_backlog`] in KiB.
    pub min_backlog_kib: Option<u64>,
    /// [`SwarmConfig::backlog_time`] in milliseconds.
    pub backlog_ms: Option<u64>,
    /// [`SwarmConfig::block_length`] in KiB.
    pub block_kib: Option<u32>,
}

impl Tuning {
    /// What the hosts use.
    pub fn config(&self) -> SwarmConfig {
        let mut config = SwarmConfig::default();
        let kib =
            |value: &mut u64, given: Option<u64>| *value = given.map_or(*value, |kib| kib * 1024);
        kib(&mut config.min_in_sockets, self.min_in_sockets_kib);
        kib(&mut config.min_pipeline, self.min_pipeline_kib);
        kib(&mut config.first_pipeline, self.first_pipeline_kib);
        kib(&mut config.min_backlog, self.min_backlog_kib);
        let time = |value: &mut Duration, given: Option<u64>| {
            *value = given.map_or(*value, Duration::from_millis);
        };
        time(&mut config.socket_time, self.socket_ms);
        time(&mut config.pipeline_time, self.pipeline_ms);
        time(&mut config.backlog_time, self.backlog_ms);
        config.block_length = self.block_kib.map_or(config.block_length, |kib| kib * 1024);
        config
    }
}

/// A site. All traffic between two zones passes the links of both.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Rate of the link to the other zones in Mbit/s, each way.
    pub mbit: f64,
    /// Milliseconds that it adds each way.
    #[serde(default)]
    pub latency_ms: f64,
}

/// Nodes that are alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// How many.
    pub count: usize,
    /// Uplink in Mbit/s.
    pub up_mbit: f64,
    /// Downlink in Mbit/s; default: as the uplink.
    pub down_mbit: Option<f64>,
    /// The zone, counted from 0, in which they and (for zone 0) the supernode are.
    #[serde(default)]
    pub zone: usize,
    /// What they do.
    #[serde(default)]
    pub behaviour: Behaviour,
    /// They die this many seconds after their arrival.
    pub dies_after_s: Option<f64>,
}

/// How a node behaves towards its peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// As it should.
    #[default]
    Honest,
    /// Every block that it sends is wrong.
    Corrupt,
    /// It says what it has, takes requests and answers none.
    Silent,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            title: String::new(),
            seed: 7,
            mib: 64.0,
            piece_kib: None,
            supernode_mbit: 50.0,
            source_mbit: None,
            latency_ms: 0.5,
            header_percent: 0.0,
            arrival_s: 0.0,
            leave_when_complete: false,
            read_in_order: false,
            dials: 40,
            limit_s: 3600.0,
            zones: Vec::new(),
            nodes: vec![Group::equal(20, 50.0)],
            swarm: Tuning::default(),
        }
    }
}

impl Group {
    /// Nodes whose links carry `mbit` each way.
    pub fn equal(count: usize, mbit: f64) -> Self {
        Self {
            count,
            up_mbit: mbit,
            down_mbit: None,
            zone: 0,
            behaviour: Behaviour::Honest,
            dies_after_s: None,
        }
    }

    /// The same nodes, behaving so.
    #[must_use]
    pub fn behaving(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// Downlink in Mbit/s.
    pub fn down(&self) -> f64 {
        self.down_mbit.unwrap_or(self.up_mbit)
    }
}

/// A scenario that cannot be played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("scenario {path} not read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no scenario.
    #[error("scenario {path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
    /// A value cannot be.
    #[error("{0}")]
    Value(String),
    /// Not all nodes had everything in time.
    #[error("{missing} nodes are not complete after {limit_s} virtual seconds: {held}")]
    Unfinished {
        /// Nodes without everything.
        missing: usize,
        /// The scenario's limit.
        limit_s: f64,
        /// How much the slowest of them have.
        held: String,
    },
}

impl Scenario {
    /// A flash crowd of `nodes` with equal links, the supernode's among them; the content arrives at
    /// that rate too.
    pub fn flash_crowd(nodes: usize, mib: f64, mbit: f64) -> Self {
        Self {
            mib,
            supernode_mbit: mbit,
            source_mbit: Some(mbit),
            nodes: vec![Group::equal(nodes, mbit)],
            ..Self::default()
        }
    }

    /// Reads a scenario.
    ///
    /// # Errors
    /// A file that cannot be read or is no scenario.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|error| ScenarioError::Parse {
            path: path.to_owned(),
            message: error.to_string(),
        })
    }

    /// The content's length in bytes.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates"
    )]
    pub fn length(&self) -> u64 {
        (self.mib * 1024.0 * 1024.0) as u64
    }

    /// How the content is cut.
    ///
    /// # Errors
    /// A length or piece length that flotilla does not swarm.
    pub fn geometry(&self) -> Result<Geometry, ScenarioError> {
        let geometry = match self.piece_kib {
            Some(kib) => Geometry::new(self.length(), kib.saturating_mul(1024)),
            None => Geometry::for_length(self.length()),
        };
        geometry.map_err(|error| ScenarioError::Value(error.to_string()))
    }

    /// Nodes in all.
    pub fn node_count(&self) -> usize {
        self.nodes.iter().map(|group| group.count).sum()
    }

    /// Seconds below which no schedule can bring the content to all honest nodes that arrive at once:
    /// the supernode sends it once, each downlink takes it once, all uplinks together carry all copies.
    pub fn bound(&self) -> f64 {
        let bits = self.mib * 1024.0 * 1024.0 * 8.0 / 1e6;
        let honest = self
            .nodes
            .iter()
            .filter(|group| group.behaviour == Behaviour::Honest && group.dies_after_s.is_none());
        let (mut count, mut up, mut slowest) = (0.0, self.supernode_mbit, f64::INFINITY);
        for group in honest {
            let nodes = u32::try_from(group.count).map_or(f64::MAX, f64::from);
            count += nodes;
            up += nodes * group.up_mbit;
            slowest = group.down().min(slowest);
        }
        let source = self
            .source_mbit
            .unwrap_or(f64::INFINITY)
            .min(self.supernode_mbit);
        (bits / source).max(bits / slowest).max(count * bits / up)
    }
}
