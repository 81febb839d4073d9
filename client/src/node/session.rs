//! Follows one swarm at the supernodes: takes the piece map as it grows, announces this
//! node, moves to the next supernode when one fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flotilla_cluster::messages::node_report::{HeldPieces, NodeReport, ServedBy, SwarmPart};
use flotilla_cluster::messages::swarms::{SwarmDescriptor, SwarmEvent};
use flotilla_cluster::supernode_client::{Supernode, SupernodeError};
use flotilla_cluster::trace;
use flotilla_torrents::Geometry;
use flotilla_torrents::tracker_wire::{AnnounceEvent, AnnounceReply, AnnounceRequest};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use url::Url;

use crate::engine::running_swarm::SwarmState;
use crate::engine::swarm_handle::SwarmHandle;
use crate::node::layer::{Content, Layer};
use crate::node::requester::Requester;
use crate::node::{NodeShared, OpenError};

/// Pause between attempts to find a supernode for a swarm that lost its own.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Attempts before a swarm without supernode is left to its peers.
const RETRIES: u32 = 240;
/// Announce interval when the tracker names none.
const INTERVAL: Duration = Duration::from_secs(5);
/// Peers asked for: enough for a random graph of small diameter (40 neighbours, simulated).
const NUMWANT: u32 = 50;

/// Runs until the node stops or the swarm is void.
async fn run_session(
    node: Arc<NodeShared>,
    swarm: SwarmHandle,
    supernode: Supernode,
    descriptor: SwarmDescriptor,
    requester: Arc<Mutex<Requester>>,
) {
    let handle = swarm.clone();
    let session = Session {
        node: Arc::clone(&node),
        swarm,
        requester,
    };
    node.shutdown
        .clone()
        .run_until_cancelled(session.run(supernode, descriptor))
        .await;
    node.unfollow(&handle);
}

impl NodeShared {
    /// Joins the swarm of `descriptor`, and follows it at `supernode` unless a session does that already.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        supernode: Supernode,
        descriptor: SwarmDescriptor,
        url: &Url,
        requester: Requester,
    ) -> Result<Layer, OpenError> {
        let geometry = Geometry::new(descriptor.length, descriptor.piece_length)?;
        let origin = &(self.origin_of)(url);
        let handle = self
            .engine
            .join(&descriptor.content, geometry, origin)
            .await?;
        handle.layer().note_url(url);
        handle.set_ticket(descriptor.ticket.clone());
        let layer = Layer {
            content: Content::Swarm(handle.clone()),
            validator: descriptor.validator.clone(),
            supernode: Some((supernode.clone(), origin.clone())),
            // Before the first piece can come.
            _waiting: handle.trace_pieces(trace::current()),
        };
        if let Some(requester) = self.begin_following(&handle, requester) {
            // What was missing before the session began is not late yet.
            handle.progressed();
            let node = Arc::clone(self);
            let session = run_session(node, handle, supernode, descriptor, requester);
            tokio::spawn(session);
        }
        Ok(layer)
    }
}

struct Session {
    node: Arc<NodeShared>,
    swarm: SwarmHandle,
    /// The last requester.
    requester: Arc<Mutex<Requester>>,
}

impl Session {
    async fn run(&self, mut supernode: Supernode, mut descriptor: SwarmDescriptor) {
        loop {
            let outcome = self.attend(&supernode, &descriptor).await;
            if self.is_over() {
                return;
            }
            self.swarm.set_supernode_alive(false);
            if let Err(error) = outcome {
                tracing::warn!(content = %self.swarm.content(), %error, "supernode lost");
            }
            match self.reopen().await {
                Some((next, described)) => (supernode, descriptor) = (next, described),
                None => return,
            }
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.swarm.status().state, SwarmState::Void(_)) || self.swarm.is_closed()
    }

    /// Follows the events and announces, both until one of them fails.
    async fn attend(
        &self,
        supernode: &Supernode,
        descriptor: &SwarmDescriptor,
    ) -> Result<(), SupernodeError> {
        if !supernode.is_greeted() {
            self.node.greet(supernode).await?;
        }
        self.swarm.set_ticket(descriptor.ticket.clone());
        self.swarm.set_supernode_alive(true);
        if let Some(origin) = supernode.peer_address(descriptor.peer_port).await {
            self.swarm.add_peers(vec![origin]).await;
        }
        tokio::select! {
            followed = self.take_events(supernode, descriptor) => followed,
            () = self.announce_until_closed(supernode, descriptor) => Ok(()),
        }
    }

    async fn take_events(
        &self,
        supernode: &Supernode,
        descriptor: &SwarmDescriptor,
    ) -> Result<(), SupernodeError> {
        let mut events = supernode
            .events(self.swarm.swarm(), &descriptor.ticket)
            .await?;
        while let Some(event) = events.next().await {
            match event? {
                SwarmEvent::Pieces { first, hashes } => {
                    if let Err(reason) = self.swarm.publish_hashes(first, hashes.into()).await {
                        self.swarm
                            .abort(format!("the supernode contradicts itself: {reason}"))
                            .await;
                        return Ok(());
                    }
                }
                SwarmEvent::Sealed { sha256, .. } => {
                    self.swarm.sealed(sha256).await;
                    // Nothing more will be published; announces continue.
                    std::future::pending::<()>().await;
                }
                SwarmEvent::Void {
                    reason,
                    first_wrong,
                } => {
                    let geometry = self.swarm.geometry();
                    match first_wrong.and_then(|index| geometry.piece(index)) {
                        Some(first) => self.swarm.abort_from(first, reason).await,
                        None => self.swarm.abort(reason).await,
                    }
                    self.swarm.closed().await;
                    return Ok(());
                }
                SwarmEvent::Elsewhere { reason, seconds } => {
                    let time = Duration::from_secs(seconds.into());
                    let source = self.swarm.layer().origin();
                    supernode.avoid_for_source(source, time, reason.clone());
                    let supernode = supernode.url().clone();
                    return Err(SupernodeError::Elsewhere { supernode, reason });
                }
                SwarmEvent::Heartbeat {} => {}
            }
        }
        Err(SupernodeError::Unreachable {
            supernode: supernode.url().clone(),
            reason: "it ended the event stream".to_owned(),
        })
    }

    async fn announce_until_closed(&self, supernode: &Supernode, descriptor: &SwarmDescriptor) {
        let mut event = Some(AnnounceEvent::Started);
        let mut status = self.swarm.watch();
        let mut reported_complete = false;
        let origin = supernode.peer_address(descriptor.peer_port).await;
        while !self.is_over() {
            let complete = self.swarm.status().complete;
            reported_complete &= complete;
            if complete && !reported_complete {
                reported_complete = true;
                event = event.or(Some(AnnounceEvent::Completed));
            }
            let interval = match supernode
                .announce(&self.announcement(descriptor, event), &self.report())
                .await
            {
                Ok(AnnounceReply::Peers(reply)) => {
                    self.swarm.note_reported();
                    event = None;
                    let peers = reply.peers.into_iter().chain(origin).collect();
                    self.swarm.add_peers(peers).await;
                    Duration::from_secs(u64::from(reply.interval))
                        .clamp(Duration::from_secs(1), Duration::from_secs(1800))
                }
                // The ticket has expired, or the supernode has another key: ask for a new one.
                Ok(AnnounceReply::Failure(reason)) => {
                    tracing::info!(content = %self.swarm.content(), reason, "announce refused");
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "announce failed");
                    INTERVAL
                }
            };
            // News are that it is complete, or no longer so, or over; everything else can wait for its turn.
            let news = async {
                let news = status.wait_for(|status| {
                    status.complete != complete || matches!(status.state, SwarmState::Void(_))
                });
                let _ = news.await;
            };
            let closed = self.swarm.closed();
            tokio::select! {
                () = news => {}
                () = closed => return,
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    fn announcement(
        &self,
        descriptor: &SwarmDescriptor,
        event: Option<AnnounceEvent>,
    ) -> AnnounceRequest {
        let engine = &self.node.engine;
        let listen = engine.listen_addr();
        let counters = self.swarm.counters();
        let geometry = self.swarm.geometry();
        let status = self.swarm.status();
        let left = u64::from(geometry.piece_count().saturating_sub(status.held))
            .saturating_mul(u64::from(geometry.piece_length()))
            .min(geometry.length());
        AnnounceRequest {
            info_hash: self.swarm.swarm(),
            peer_id: engine.peer_id(),
            port: listen.port(),
            ip: (!listen.ip().is_unspecified()).then_some(listen.ip()),
            uploaded: counters.uploaded.load(Ordering::Relaxed),
            downloaded: counters.downloaded.load(Ordering::Relaxed),
            left,
            event,
            numwant: Some(NUMWANT),
            compact: true,
            no_peer_id: true,
            key: None,
            ticket: Some(descriptor.ticket.to_string()),
        }
    }

    fn requester(&self) -> Requester {
        let requester = self.requester.lock();
        requester.clone()
    }

    /// What the supernode's operator may see.
    fn report(&self) -> NodeReport {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = self.swarm.counters();
        let from_supernodes = load(&counters.from_supernodes);
        let served_by = self.swarm.served_by(NodeReport::MAX_SERVED_BY);
        let served_by = served_by.into_iter();
        let status = self.swarm.status();
        NodeReport {
            swarm: SwarmPart {
                is_first: !self.swarm.is_reported(),
                from_supernodes,
                from_peers: load(&counters.received).saturating_sub(from_supernodes),
                from_registry: load(&counters.from_registry),
                wasted: load(&counters.wasted),
                peers: u32::try_from(status.peers).unwrap_or(u32::MAX),
                held: HeldPieces::of(&self.swarm.layer().held()),
                served_by: served_by
                    .map(|(peer, bytes)| ServedBy { peer, bytes })
                    .collect(),
                registry_reason: self.swarm.registry_reason(),
            },
            ..self.node.report()
        }
    }

    /// Finds a supernode that takes the swarm over. None: the swarm is left to its peers.
    async fn reopen(&self) -> Option<(Supernode, SwarmDescriptor)> {
        for _ in 0..RETRIES {
            if self.swarm.status().complete || self.is_over() {
                return None;
            }
            match self.node.open_again(&self.requester()).await {
                Ok((supernode, descriptor)) if descriptor.swarm == self.swarm.swarm() => {
                    return Some((supernode, descriptor));
                }
                Ok(_) => {
                    // These pieces will never be complete.
                    self.swarm
                        .abort("the content at the source has changed".to_owned())
                        .await;
                    return None;
                }
                // The caller's token has expired. The next caller opens a new session.
                Err(OpenError::Refused {
                    status: 401 | 403 | 404,
                    ..
                }) => return None,
                Err(_) => {}
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        None
    }
}
