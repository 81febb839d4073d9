//! Which nodes are there, and which layers they are to have before anybody pulls them.
//!
//! A node keeps one request open, by which it is there; its answer are the orders. It says of each
//! layer what has become of it. A node that comes back gets the orders again that it is not known to have carried out.

pub(crate) mod api;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_cluster::messages::orders::{
    OpenOrdered, OrderEvent, OrderOutcome, OrderedLayer, TakeOrders,
};
use flotilla_torrents::{ContentId, PeerId};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::NodeSelector;
use super::jobs::JobId;

/// A node that restarts, or moves to another network, is back by then.
const OFFLINE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often nodes that are gone are looked for.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const MAX_NODES: usize = 10_000;
const MAX_NAME_LENGTH: usize = 255;
/// Layers in one line: a few hundred KiB.
const LAYERS_OF_A_LINE: usize = 1000;
/// Lines that wait for one node. One that reads more slowly is sent away, and comes back.
const QUEUE: usize = 256;

/// The nodes and their orders. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Orders(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Notified when a part may have ended.
    changed: watch::Sender<()>,
    gone_after: Duration,
}

#[derive(Default)]
struct State {
    nodes: HashMap<PeerId, Present>,
    deliveries: HashMap<JobId, JobDelivery>,
    next_visit: u64,
}

/// A node that is there.
struct Present {
    name: String,
    visit: u64,
    orders: mpsc::Sender<OrderEvent>,
}

struct JobDelivery {
    layers: Vec<OrderedLayer>,
    /// By the names of the chosen nodes.
    parts: BTreeMap<String, Part>,
}

/// What one node is to do.
struct Part {
    missing: HashSet<ContentId>,
    /// Why the first of the layers that it cannot get is missing.
    error: Option<String>,
    gone_since: Option<Instant>,
}

impl Part {
    fn has_ended(&self) -> bool {
        self.missing.is_empty()
    }
}

/// How far a job is at the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deliveries {
    /// Nodes that were chosen.
    pub(crate) nodes: usize,
    /// Of these, those that have every layer, or have failed.
    pub(crate) ended: usize,
    /// Layers that are missing, over all nodes.
    pub(crate) missing_layers: usize,
}

/// A node is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnterError {
    #[error("a node's name has 1 to {MAX_NAME_LENGTH} bytes")]
    Name,
    #[error("{MAX_NODES} nodes take orders here; no more are taken")]
    Full,
}

/// A node's visit: it is there until this is dropped.
pub(crate) struct Visit {
    orders: Orders,
    peer_id: PeerId,
    name: String,
    visit: u64,
    pub(crate) events: mpsc::Receiver<OrderEvent>,
}

/// Ends a job's orders when it is dropped.
struct Withdrawal<'a> {
    orders: &'a Orders,
    job: JobId,
}

impl Orders {
    pub(crate) fn new() -> Self {
        Self::giving_up_after(OFFLINE_TIMEOUT)
    }

    fn giving_up_after(gone_after: Duration) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            gone_after,
        }))
    }

    /// A node is there, and gets its orders. An earlier visit of the same peer ends.
    ///
    /// # Errors
    /// There are too many nodes, or it has no name.
    pub(crate) fn enter(&self, node: TakeOrders) -> Result<Visit, EnterError> {
        let TakeOrders {
            node: name,
            peer_id,
        } = node;
        if name.is_empty() || name.len() > MAX_NAME_LENGTH {
            return Err(EnterError::Name);
        }
        let mut state = self.lock();
        if state.nodes.len() >= MAX_NODES && !state.nodes.contains_key(&peer_id) {
            return Err(EnterError::Full);
        }
        let visit = state.next_visit;
        state.next_visit += 1;
        // Everything that is sent now fits in, whatever comes later.
        let awaited = state
            .deliveries
            .values()
            .filter(|d| d.parts.contains_key(&name));
        let lines = awaited.map(|delivery| delivery.layers.len().div_ceil(LAYERS_OF_A_LINE));
        let (orders, events) = mpsc::channel(QUEUE + lines.sum::<usize>());
        for (job, delivery) in &mut state.deliveries {
            if let Some(part) = delivery.parts.get_mut(&name) {
                part.gone_since = None;
                let _ = tell(*job, &delivery.layers, part, &orders);
            }
        }
        let present = Present {
            name: name.clone(),
            visit,
            orders,
        };
        state.nodes.insert(peer_id, present);
        Ok(Visit {
            orders: self.clone(),
            peer_id,
            name,
            visit,
            events,
        })
    }

    /// The names of the nodes that are there and are called so.
    pub(crate) fn called(&self, selector: &NodeSelector) -> BTreeSet<String> {
        let state = self.lock();
        let names = state.nodes.values().map(|node| &node.name);
        names
            .filter(|name| selector.matches(name))
            .cloned()
            .collect()
    }

    /// Returns when every node has every layer, has failed, or is gone for too long; why it has not
    /// got them. Dropped, it withdraws the orders.
    pub(crate) async fn deliver(
        &self,
        job: JobId,
        layers: Vec<OrderedLayer>,
        nodes: BTreeSet<String>,
    ) -> BTreeMap<String, Option<String>> {
        let mut changed = self.0.changed.subscribe();
        let _withdrawal = self.begin(job, layers, nodes);
        loop {
            if let Some(ended) = self.ended(job) {
                return ended;
            }
            // The sender lives as long as this.
            let _ = tokio::time::timeout(POLL_INTERVAL, changed.changed()).await;
        }
    }

    /// The layer, if this very node is there and is to have it.
    pub(crate) fn ordered(&self, job: JobId, asked: &OpenOrdered) -> Option<OrderedLayer> {
        let state = self.lock();
        state.node(&asked.peer_id, &asked.node)?;
        let delivery = state.deliveries.get(&job)?;
        delivery.parts.get(&asked.node)?;
        let mut layers = delivery.layers.iter();
        layers.find(|layer| layer.content == asked.content).cloned()
    }

    /// How far the nodes are; none while nothing is delivered.
    pub(crate) fn progress(&self, job: JobId) -> Option<Deliveries> {
        let state = self.lock();
        let parts = &state.deliveries.get(&job)?.parts;
        Some(Deliveries {
            nodes: parts.len(),
            ended: parts.values().filter(|part| part.has_ended()).count(),
            missing_layers: parts.values().map(|part| part.missing.len()).sum(),
        })
    }

    /// Takes note; false: this node has no such order.
    pub(crate) fn note(&self, job: JobId, outcome: OrderOutcome) -> bool {
        let mut state = self.lock();
        let is_there = state.node(&outcome.peer_id, &outcome.node).is_some();
        let delivery = state.deliveries.get_mut(&job).filter(|_| is_there);
        let part = delivery.and_then(|delivery| delivery.parts.get_mut(&outcome.node));
        let Some(part) = part else {
            return false;
        };
        if part.missing.remove(&outcome.content)
            && let Some(error) = outcome.error
        {
            let error = format!("{}: {error}", outcome.content);
            part.error.get_or_insert(error);
        }
        drop(state);
        self.0.changed.send_replace(());
        true
    }

    fn begin(
        &self,
        job: JobId,
        layers: Vec<OrderedLayer>,
        nodes: BTreeSet<String>,
    ) -> Withdrawal<'_> {
        let mut state = self.lock();
        let missing: HashSet<ContentId> =
            layers.iter().map(|layer| layer.content.clone()).collect();
        let now = Instant::now();
        let parts = nodes.into_iter().map(|node| {
            let part = Part {
                missing: missing.clone(),
                error: None,
                gone_since: Some(now),
            };
            (node, part)
        });
        let mut delivery = JobDelivery {
            layers,
            parts: parts.collect(),
        };
        state.nodes.retain(|_, node| {
            let Some(part) = delivery.parts.get_mut(&node.name) else {
                return true;
            };
            let is_told = tell(job, &delivery.layers, part, &node.orders);
            part.gone_since = (!is_told).then_some(now);
            is_told
        });
        state.deliveries.insert(job, delivery);
        Withdrawal { orders: self, job }
    }

    fn ended(&self, job: JobId) -> Option<BTreeMap<String, Option<String>>> {
        let mut state = self.lock();
        let delivery = state.deliveries.get_mut(&job)?;
        let gone_after = self.0.gone_after;
        for part in delivery.parts.values_mut() {
            if part
                .gone_since
                .is_some_and(|since| since.elapsed() >= gone_after)
            {
                let missing = part.missing.len();
                let seconds = gone_after.as_secs();
                let error = format!(
                    "it has not been connected for {seconds} seconds, and {missing} layers are missing there"
                );
                if missing > 0 {
                    part.error.get_or_insert(error);
                    part.missing.clear();
                }
            }
        }
        let parts = &delivery.parts;
        parts.values().all(Part::has_ended).then(|| {
            let ended = parts.iter();
            ended
                .map(|(node, part)| (node.clone(), part.error.clone()))
                .collect()
        })
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

impl State {
    fn node(&self, peer_id: &PeerId, name: &str) -> Option<&Present> {
        self.nodes.get(peer_id).filter(|node| node.name == name)
    }
}

/// Orders what is missing; false: the node does not keep up.
fn tell(
    job: JobId,
    layers: &[OrderedLayer],
    part: &Part,
    orders: &mpsc::Sender<OrderEvent>,
) -> bool {
    let missing = layers
        .iter()
        .filter(|layer| part.missing.contains(&layer.content));
    let missing: Vec<OrderedLayer> = missing.cloned().collect();
    let mut lines = missing.chunks(LAYERS_OF_A_LINE);
    lines.all(|layers| {
        let (job, layers) = (job.0, layers.to_vec());
        orders.try_send(OrderEvent::Layers { job, layers }).is_ok()
    })
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut state = self.orders.lock();
        let is_last = |node: &Present| node.visit == self.visit;
        // It may have been removed before, because it did not keep up.
        if state.nodes.get(&self.peer_id).is_some_and(is_last) {
            state.nodes.remove(&self.peer_id);
        }
        if state.nodes.values().any(|node| node.name == self.name) {
            return;
        }
        for delivery in state.deliveries.values_mut() {
            if let Some(part) = delivery.parts.get_mut(&self.name) {
                part.gone_since.get_or_insert(Instant::now());
            }
        }
    }
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        let mut state = self.orders.lock();
        let Some(delivery) = state.deliveries.remove(&self.job) else {
            return;
        };
        for node in state.nodes.values() {
            let part = delivery.parts.get(&node.name);
            if part.is_some_and(|part| !part.has_ended()) {
                // A node that does not hear of it finds out when it asks for the layers.
                let _ = node
                    .orders
                    .try_send(OrderEvent::Withdrawn { job: self.job.0 });
            }
        }
    }
}

#[cfg(test)]
mod tests;
