//! What a simulation showed.

use std::fmt;

use flotilla_torrents::Geometry;

use super::events::{HostId, Time};
use super::host::Host;
use super::scenario::{Behaviour, Scenario};

/// Bytes that the uplinks have carried at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: Time,
    pub(super) supernode: f64,
    pub(super) nodes: f64,
}

/// Figures of one simulation; times in seconds from each node's arrival.
#[derive(Clone, Debug)]
pub struct Report {
    /// The scenario's title.
    pub title: String,
    /// Seconds from the first arrival until the last honest node had everything.
    pub makespan: f64,
    /// Seconds that no schedule can beat.
    pub bound: f64,
    /// Times of the honest nodes, in order.
    pub times: Vec<f64>,
    /// Times until their first piece, in order.
    pub first_pieces: Vec<f64>,
    /// The content's length that the supernode sent, in multiples.
    pub supernode_copies: f64,
    /// Multiples of the content that an honest node received in the mean.
    pub received: f64,
    /// Announces of a node in the mean.
    pub announces: f64,
    /// Bytes of messages other than blocks that a node sent in the mean, headers included.
    pub control: f64,
    /// Connections of a node in the mean at the end.
    pub connections: f64,
    /// Who shunned which peer for a corrupt piece.
    pub shunned: Vec<(u32, u32)>,
    /// Seconds, and the share of the uplinks of supernode and nodes used since the moment before.
    pub uplinks: Vec<(f64, f64, f64)>,
}

impl Report {
    pub(super) fn new(
        scenario: &Scenario,
        hosts: &[Host],
        samples: &[Sample],
        shunned: Vec<(HostId, HostId)>,
        geometry: Geometry,
    ) -> Self {
        let honest: Vec<&Host> = hosts
            .iter()
            .skip(1)
            .filter(|host| host.behaviour == Behaviour::Honest)
            .collect();
        let ends = honest.iter().filter_map(|host| host.finished);
        let since = |host: &Host, at: Option<Time>| at.map(|at| seconds(at - host.arrived));
        let length = float(geometry.length());
        let mean = |of: &dyn Fn(&Host) -> f64| {
            honest.iter().map(|host| of(host)).sum::<f64>() / float(honest.len() as u64)
        };
        Self {
            title: scenario.title.clone(),
            makespan: ends.max().map_or(0.0, seconds),
            bound: scenario.bound(),
            times: sorted(honest.iter().filter_map(|host| since(host, host.finished))),
            first_pieces: sorted(
                honest
                    .iter()
                    .filter_map(|host| since(host, host.first_piece)),
            ),
            supernode_copies: hosts.first().map_or(0.0, |host| float(host.sent)) / length,
            received: mean(&|host| float(host.received)) / length,
            announces: mean(&|host| f64::from(host.announces)),
            control: mean(&|host| float(host.control)),
            connections: mean(&|host| float(host.connections as u64)),
            shunned,
            uplinks: uplinks(scenario, samples),
        }
    }

    /// The makespan in multiples of the bound.
    pub fn ratio(&self) -> f64 {
        self.makespan / self.bound
    }

    /// The time that this share of the nodes kept, in multiples of the bound.
    pub fn quantile(&self, share: f64) -> f64 {
        quantile(&self.times, share) / self.bound
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {:.2} s, {:.3} of the bound (p50 {:.3}, p99 {:.3}, p99.9 {:.3}); supernode {:.3} copies, node received {:.3}; first piece p50 {:.3} s, last {:.3} s; a node: {:.1} announces, {:.0} KB control, {:.0} connections",
            self.title,
            self.makespan,
            self.ratio(),
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(0.999),
            self.supernode_copies,
            self.received,
            quantile(&self.first_pieces, 0.5),
            quantile(&self.first_pieces, 1.0),
            self.announces,
            self.control / 1e3,
            self.connections,
        )
    }
}

/// The use of the uplinks between each two samples.
fn uplinks(scenario: &Scenario, samples: &[Sample]) -> Vec<(f64, f64, f64)> {
    let nodes: f64 = scenario
        .nodes
        .iter()
        .map(|group| float(group.count as u64) * group.up_mbit)
        .sum();
    samples
        .windows(2)
        .filter_map(|pair| {
            let [before, after] = pair else { return None };
            let bytes_per_mbit = seconds(after.at - before.at) * 1e6 / 8.0;
            Some((
                seconds(after.at),
                (after.supernode - before.supernode) / bytes_per_mbit / scenario.supernode_mbit,
                (after.nodes - before.nodes) / bytes_per_mbit / nodes,
            ))
        })
        .collect()
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index"
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (share * float(sorted.len() as u64)).ceil() as usize;
    sorted
        .get(at.saturating_sub(1).min(last))
        .copied()
        .unwrap_or(0.0)
}

fn seconds(at: Time) -> f64 {
    float(at) / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "figures are estimates")]
fn float(value: u64) -> f64 {
    value as f64
}
