//! What supernodes have this node fetch before anybody pulls it.
//!
//! The node asks each supernode and is answered as orders come, so that it needs no port for this.
//! The supernode answers for the node at the registry; a later caller is checked there itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use flotilla_cluster::messages::orders::{OrderEvent, OrderOutcome, OrderedLayer, TakeOrders};
use flotilla_cluster::messages::swarms::Delivery;
use flotilla_cluster::supernode_client::{Supernode, SupernodeError};
use flotilla_torrents::ContentId;
use futures_util::{StreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::blocking::blocking;
use crate::node::requester::{PrefetchOrder, Requester};
use crate::node::{Layer, Node};

/// Layers fetched for orders at the same time: an engine that pulls asks for three and more.
const AT_ONCE: usize = 2;
/// Before a supernode that was lost is asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Before one that knows no orders, or not this node, is.
const LONG_RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// How often a fetch that gives way looks whether it may begin.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The longest that pulls may put off one fetch: they may never end.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Without any progress of a layer.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);

impl Node {
    /// Takes orders of all supernodes until the node stops. Pulls go first: a fetch does not begin
    /// while something arrives that a caller waits for.
    pub fn accept_prefetch(&self) {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        for supernode in self.0.supernodes.all() {
            let taker = PrefetchTaker {
                node: self.clone(),
                supernode: supernode.clone(),
                slots: Arc::clone(&slots),
            };
            let shutdown = self.0.shutdown.clone();
            tokio::spawn(async move { shutdown.run_until_cancelled(taker.run()).await });
        }
    }
}

/// Takes the orders of one supernode.
#[derive(Clone)]
struct PrefetchTaker {
    node: Node,
    supernode: Supernode,
    slots: Arc<Semaphore>,
}

impl PrefetchTaker {
    async fn run(self) {
        loop {
            let pause = match self.listen().await {
                Ok(()) => RETRY_INTERVAL,
                Err(error) => {
                    tracing::debug!(%error, "orders of the supernode not received");
                    match error {
                        SupernodeError::Unexpected { .. } | SupernodeError::NotAMember { .. } => {
                            LONG_RETRY_INTERVAL
                        }
                        _ => RETRY_INTERVAL,
                    }
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Takes orders until the supernode ends them. It gives those that are open again to a node
    /// that comes back, so that nothing continues without it; layers that have begun still arrive.
    async fn listen(&self) -> Result<(), SupernodeError> {
        let shared = &self.node.0;
        let node = TakeOrders {
            node: shared.node_name.clone(),
            peer_id: shared.engine.peer_id(),
        };
        let mut events = self.supernode.orders(&node).await?;
        let connected = CancellationToken::new();
        let _end = connected.clone().drop_guard();
        let mut jobs: HashMap<u64, CancellationToken> = HashMap::new();
        while let Some(event) = events.next().await {
            match event? {
                OrderEvent::Layers { job, layers } => {
                    tracing::info!(job, layers = layers.len(), "layers ordered");
                    let valid = jobs.entry(job).or_insert_with(|| connected.child_token());
                    let (valid, taker) = (valid.clone(), self.clone());
                    let fetching = async move { taker.fetch_all(job, layers).await };
                    tokio::spawn(async move { valid.run_until_cancelled(fetching).await });
                }
                OrderEvent::Withdrawn { job } => {
                    if let Some(valid) = jobs.remove(&job) {
                        valid.cancel();
                    }
                }
                OrderEvent::Heartbeat {} => {}
            }
        }
        Ok(())
    }

    async fn fetch_all(&self, job: u64, layers: Vec<OrderedLayer>) {
        let fetches = stream::iter(layers).map(|layer| async move {
            let content = layer.content.clone();
            // The semaphore is never closed.
            let slot = self.slots.acquire().await;
            let error = self.fetch(job, &layer).await.err();
            drop(slot);
            if let Some(error) = &error {
                tracing::warn!(%content, error, "ordered layer not fetched");
            }
            self.tell(job, content, error).await;
        });
        fetches.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    /// Returns once the layer is complete on the disk.
    async fn fetch(&self, job: u64, layer: &OrderedLayer) -> Result<(), String> {
        let url: Url = layer
            .url
            .parse()
            .map_err(|_| "the ordered URL is invalid".to_owned())?;
        if self.node.held(&layer.content, &url).await.is_some() {
            return Ok(());
        }
        self.give_way().await;
        let shared = &self.node.0;
        let order = PrefetchOrder {
            supernode: self.supernode.clone(),
            job,
            content: layer.content.clone(),
        };
        let opened = shared.open_order(&order).await;
        let (supernode, descriptor) = opened.map_err(|error| error.to_string())?;
        if descriptor.delivery == Delivery::Whole {
            let small = shared.small_content(&supernode, descriptor).await;
            let small = small.map_err(|error| error.to_string())?;
            let engine = shared.engine.clone();
            let origin = (shared.origin_of)(&url);
            let kept = blocking(move || engine.keep_now(&small, &origin)).await;
            return kept.map_err(|error| error.to_string());
        }
        let requester = Requester::Order(order);
        let followed = shared.follow(supernode, descriptor, &url, requester).await;
        completed(&followed.map_err(|error| error.to_string())?).await
    }

    async fn give_way(&self) {
        let pulls_are_over = async {
            while self.node.0.is_pulling() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        // After the longest wait it continues beside them.
        let _ = tokio::time::timeout(MAX_WAIT, pulls_are_over).await;
    }

    /// Repeats the report until the supernode has it. A supernode that restarts gives the order again.
    async fn tell(&self, job: u64, content: ContentId, error: Option<String>) {
        let shared = &self.node.0;
        let outcome = OrderOutcome {
            node: shared.node_name.clone(),
            peer_id: shared.engine.peer_id(),
            content,
            error,
        };
        while let Err(error) = self.supernode.tell_outcome(job, &outcome).await {
            tracing::debug!(%error, "outcome of an order not reported");
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }
}

/// Waits for the layer for as long as it comes forward.
async fn completed(layer: &Layer) -> Result<(), String> {
    let stuck = async {
        match layer.swarm() {
            Some(swarm) => {
                while swarm.idle_for() < STALL_TIMEOUT {
                    tokio::time::sleep(STALL_TIMEOUT.saturating_sub(swarm.idle_for())).await;
                }
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        completed = layer.completed() => completed,
        () = stuck => Err(format!("nothing of it has come for {} seconds", STALL_TIMEOUT.as_secs())),
    }
}
