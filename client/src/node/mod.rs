//! A node of the cluster: an engine, the supernodes it asks, and the layers it has.

mod asking;
mod error;
mod layer;
mod orders;
mod requester;
mod session;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use flotilla_cluster::messages::node_report::{HostReport, NodeReport, SupernodeSeen, SwarmPart};
use flotilla_cluster::messages::orders::OpenOrdered;
use flotilla_cluster::messages::swarms::{Delivery, InlineContent, OpenResponse, SwarmDescriptor};
use flotilla_cluster::redacted;
use flotilla_cluster::supernode_client::{Supernode, SupernodeError, Supernodes};
use flotilla_torrents::{ContentId, Digest, Geometry};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use self::error::{OpenError, StartError};
use self::layer::Content;
pub use self::layer::Layer;
pub use self::requester::{ContentRequest, LayerFacts};
use self::requester::{PrefetchOrder, Requester};
use crate::engine::swarm_handle::SwarmHandle;
use crate::engine::{Engine, EngineConfig};
use crate::store::small_content::SmallContent;

/// What a [`Node`] needs to know.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where layers are kept.
    pub data_dir: PathBuf,
    /// The supernodes, in any order.
    pub supernodes: Vec<Url>,
    /// The source that has what is at a URL: another source's word does not count on who may have
    /// what this one gave.
    pub origin_of: fn(&Url) -> String,
    /// The cluster's secret, when it has one.
    pub join_token: Option<String>,
    /// The name that operators see.
    pub node_name: String,
    /// Bytes that the layers may take.
    pub cache_quota: u64,
    /// Limit on bytes per second sent to peers.
    pub upload_rate: Option<u64>,
    /// Limit on bytes per second received from peers.
    pub download_rate: Option<u64>,
}

/// A node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Node(pub(crate) Arc<NodeShared>);

#[derive(Debug)]
pub(crate) struct NodeShared {
    pub(crate) engine: Engine,
    pub(crate) supernodes: Supernodes,
    pub(crate) shutdown: CancellationToken,
    pub(crate) node_name: String,
    pub(crate) origin_of: fn(&Url) -> String,
    /// Swarms with a session that follows them.
    followed: Mutex<HashMap<ContentId, Followed>>,
}

#[derive(Debug)]
struct Followed {
    swarm: SwarmHandle,
    requester: Arc<Mutex<Requester>>,
}

impl Node {
    /// Starts the engine and greets the supernodes. A supernode that cannot be reached now
    /// is greeted when it is needed.
    ///
    /// # Errors
    /// The engine cannot start, or a supernode says that this node is not a member.
    pub async fn start(
        config: NodeConfig,
        peers: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let supernodes = Supernodes::new(&config.supernodes, config.join_token.as_deref())?;
        let engine = Engine::start(
            &EngineConfig {
                data_dir: config.data_dir,
                cache_quota: config.cache_quota,
                upload_rate: config.upload_rate,
                download_rate: config.download_rate,
            },
            peers,
            shutdown.clone(),
        )?;
        let node = Self(Arc::new(NodeShared {
            engine,
            supernodes,
            shutdown,
            node_name: config.node_name,
            origin_of: config.origin_of,
            followed: Mutex::new(HashMap::new()),
        }));
        for supernode in node.0.supernodes.all() {
            match node.0.greet(supernode).await {
                Ok(()) => {}
                Err(error @ SupernodeError::NotAMember { .. }) => return Err(error.into()),
                Err(error) => tracing::warn!(%error, "supernode not greeted"),
            }
        }
        Ok(node)
    }

    /// The swarms and the store of this node.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The supernodes that it knows, and whether each answered the last time.
    pub fn supernodes(&self) -> Vec<SupernodeSeen> {
        self.0.supernodes_seen()
    }

    /// Asks the cluster for `request`; the answer comes as soon as the length is known. The
    /// caller is authorized at the source by the supernode.
    ///
    /// # Errors
    /// The swarm does not deliver; the caller goes to the source. Cancel safe.
    pub async fn open(&self, request: ContentRequest) -> Result<Layer, OpenError> {
        self.open_for(request, &LayerFacts::default()).await
    }

    /// Opens a layer of which this is known.
    ///
    /// # Errors
    /// As [`open`](Self::open). Cancel safe.
    pub async fn open_for(
        &self,
        request: ContentRequest,
        known: &LayerFacts,
    ) -> Result<Layer, OpenError> {
        let (supernode, answer) = self.0.ask(&request, None, known).await?;
        let (supernode, descriptor) = opened(supernode, answer)?;
        if let Some(wanted) = &request.digest {
            check_content(&descriptor, &ContentId::blob(wanted))?;
        }
        if descriptor.delivery == Delivery::Whole {
            let small = self.0.small_content(&supernode, descriptor).await?;
            // Behind the answer's back.
            self.0
                .engine
                .keep(small.clone(), &(self.0.origin_of)(&request.url));
            return Ok(Layer::new(Content::Small(small)));
        }
        let url = request.url.clone();
        let requester = Requester::Caller(request);
        self.0.follow(supernode, descriptor, &url, requester).await
    }

    /// Offers a blob that is complete on this node, in the caller's name: a supernode takes it
    /// from here instead of from the source, and then it seeds, and so does this node.
    ///
    /// # Errors
    /// The blob is not here, the source refuses this caller, or no supernode takes it.
    pub async fn offer(&self, request: ContentRequest) -> Result<(), OpenError> {
        let local = match &request.digest {
            Some(digest) => self.local(digest, &request.url).await,
            None => None,
        };
        let local = local.ok_or_else(|| OpenError::Unswarmable("it is not here".to_owned()))?;
        let length = local.length();
        let (supernode, answer) = self
            .0
            .ask(&request, Some(length), &LayerFacts::default())
            .await?;
        if let OpenResponse::Wanted { swarm, ticket } = &answer {
            let limit = &self.0.engine.limits().upload;
            supernode
                .give(*swarm, ticket, local.read(0..length), limit)
                .await?;
        }
        let (supernode, descriptor) = match answer {
            OpenResponse::Wanted { .. } => self.0.open_anywhere(&request).await?,
            answer => opened(supernode, answer)?,
        };
        if descriptor.delivery == Delivery::Pieces {
            let url = request.url.clone();
            let requester = Requester::Caller(request);
            self.0
                .follow(supernode, descriptor, &url, requester)
                .await?;
        }
        Ok(())
    }

    /// The layer, if it is complete and verified on this node's disk and came from the
    /// source of `url`.
    pub async fn local(&self, digest: &Digest, url: &Url) -> Option<Layer> {
        self.held(&ContentId::blob(digest), url).await
    }

    /// Any content that this node has.
    pub(crate) async fn held(&self, content: &ContentId, url: &Url) -> Option<Layer> {
        if let Ok(Some(small)) = self.0.engine.small(content, &(self.0.origin_of)(url)).await {
            return Some(Layer::new(Content::Small(small)));
        }
        let layer = self.0.engine.store().layer(content)?;
        layer.sealed()?;
        if !layer.is_untouched() {
            let quarantined = self
                .0
                .engine
                .quarantine(&layer, "changed by another process");
            if let Err(error) = quarantined.await {
                tracing::error!(%error, "damaged layer not removed");
            }
            return None;
        }
        let joined = self
            .0
            .engine
            .join(layer.content(), layer.geometry(), &(self.0.origin_of)(url))
            .await;
        joined.ok().map(|swarm| Layer::new(Content::Swarm(swarm)))
    }
}

impl NodeShared {
    /// Learns whose tickets to trust, and which registries share their layers.
    pub(crate) async fn greet(&self, supernode: &Supernode) -> Result<(), SupernodeError> {
        let hello = supernode.hello().await?;
        self.engine.trust_tickets_of(hello.ticket_key);
        self.engine.note_supernode(hello.peer_id);
        self.engine.store().share_origins(hello.shared_origins);
        Ok(())
    }

    /// What this host reports to supernodes.
    pub(crate) fn report(&self) -> NodeReport {
        let (store, limits) = (self.engine.store(), self.engine.limits());
        let counters = self.engine.counters();
        NodeReport {
            node: self.node_name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            swarm: SwarmPart::default(),
            host: HostReport {
                from_registry: counters.from_registry.load(Ordering::Relaxed),
                cache: store.bytes(),
                cache_quota: store.quota(),
                upload_rate: limits.upload.rate(),
                download_rate: limits.download.rate(),
                shunned: u32::try_from(self.engine.shunned()).unwrap_or(u32::MAX),
                supernodes: self.supernodes_seen(),
            },
        }
    }

    fn supernodes_seen(&self) -> Vec<SupernodeSeen> {
        let supernodes = self.supernodes.all().iter();
        let seen = supernodes.map(|supernode| SupernodeSeen {
            url: redacted(supernode.url()),
            reachable: !supernode.is_avoided(),
        });
        seen.collect()
    }

    /// Opens at the responsible supernode, or at its first healthy successor.
    pub(crate) async fn open_anywhere(
        &self,
        request: &ContentRequest,
    ) -> Result<(Supernode, SwarmDescriptor), OpenError> {
        let (supernode, answer) = self.ask(request, None, &LayerFacts::default()).await?;
        opened(supernode, answer)
    }

    /// Opens for an order, at the supernode that gave it.
    pub(crate) async fn open_order(
        &self,
        order: &PrefetchOrder,
    ) -> Result<(Supernode, SwarmDescriptor), OpenError> {
        let PrefetchOrder {
            supernode,
            job,
            content,
        } = order;
        let asked = OpenOrdered {
            node: self.node_name.clone(),
            peer_id: self.engine.peer_id(),
            content: content.clone(),
        };
        let answer = supernode.open_ordered(*job, &asked).await?;
        let (supernode, descriptor) = opened(supernode.clone(), answer)?;
        check_content(&descriptor, content)?;
        Ok((supernode, descriptor))
    }

    pub(crate) async fn open_again(
        &self,
        requester: &Requester,
    ) -> Result<(Supernode, SwarmDescriptor), OpenError> {
        match requester {
            Requester::Caller(request) => self.open_anywhere(request).await,
            Requester::Order(order) => self.open_order(order).await,
        }
    }

    /// Whether anything arrives for a pull.
    pub(crate) fn is_pulling(&self) -> bool {
        self.followed.lock().values().any(|followed| {
            let is_pulled = matches!(*lock_requester(&followed.requester), Requester::Caller(_));
            is_pulled && !followed.swarm.status().complete
        })
    }

    /// None when a session follows this very swarm already. If that one was for an order, it now acts in
    /// the name of the caller who pulls. One that followed an evicted swarm of the same content may still be
    /// about to notice its end.
    fn begin_following(
        &self,
        handle: &SwarmHandle,
        requester: Requester,
    ) -> Option<Arc<Mutex<Requester>>> {
        let mut followed = self.followed.lock();
        if let Some(other) = followed.get(handle.content())
            && other.swarm.is_same(handle)
        {
            let mut other = lock_requester(&other.requester);
            if matches!(
                (&*other, &requester),
                (Requester::Order(_), Requester::Caller(_))
            ) {
                *other = requester;
            }
            return None;
        }
        let requester = Arc::new(Mutex::new(requester));
        let new = Followed {
            swarm: handle.clone(),
            requester: Arc::clone(&requester),
        };
        followed.insert(handle.content().clone(), new);
        Some(requester)
    }

    pub(crate) fn unfollow(&self, handle: &SwarmHandle) {
        let mut followed = self.followed.lock();
        if followed
            .get(handle.content())
            .is_some_and(|other| other.swarm.is_same(handle))
        {
            followed.remove(handle.content());
        }
    }

    /// Content that is not worth a swarm: the supernode hands it out whole.
    pub(crate) async fn small_content(
        &self,
        supernode: &Supernode,
        descriptor: SwarmDescriptor,
    ) -> Result<SmallContent, OpenError> {
        let geometry = Geometry::new(descriptor.length, descriptor.piece_length)?;
        let bytes = match descriptor.inline {
            Some(InlineContent(bytes)) => bytes.into(),
            None => {
                supernode
                    .content(descriptor.swarm, &descriptor.ticket, descriptor.length)
                    .await?
            }
        };
        SmallContent::verify(descriptor.content, geometry, bytes).ok_or_else(|| {
            OpenError::Unswarmable("the supernode's bytes do not match the digest".to_owned())
        })
    }
}

fn lock_requester(requester: &Mutex<Requester>) -> parking_lot::MutexGuard<'_, Requester> {
    requester.lock()
}

fn check_content(descriptor: &SwarmDescriptor, wanted: &ContentId) -> Result<(), OpenError> {
    if descriptor.content == *wanted {
        return Ok(());
    }
    Err(OpenError::OtherContent {
        wanted: wanted.clone(),
        found: descriptor.content.clone(),
    })
}

fn opened(
    supernode: Supernode,
    answer: OpenResponse,
) -> Result<(Supernode, SwarmDescriptor), OpenError> {
    match answer {
        OpenResponse::Open(descriptor) => Ok((supernode, descriptor)),
        OpenResponse::Refused { status, reason } => Err(OpenError::Refused { status, reason }),
        OpenResponse::Unswarmable { reason } => Err(OpenError::Unswarmable(reason)),
        OpenResponse::Elsewhere { reason, .. } => {
            let supernode = supernode.url().clone();
            Err(SupernodeError::Elsewhere { supernode, reason }.into())
        }
        OpenResponse::Wanted { .. } => {
            let reason = "the supernode wants what was not offered";
            Err(OpenError::Unswarmable(reason.to_owned()))
        }
    }
}
