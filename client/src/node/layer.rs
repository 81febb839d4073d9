//! A layer that arrives, or has arrived.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use flotilla_cluster::supernode_client::Supernode;
use flotilla_cluster::trace::Waiting;

use crate::engine::layer_reader::LayerReader;
use crate::engine::running_swarm::SwarmState;
use crate::engine::swarm_handle::SwarmHandle;
use crate::store::small_content::SmallContent;

/// A supernode that is left by its readers is not asked for this long.
const LEAVE_TIME: Duration = Duration::from_secs(60);

/// A layer that arrives, or has arrived. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(super) content: Content,
    pub(super) validator: Option<String>,
    /// Who brings it, and of which source; none of what is on this node.
    pub(super) supernode: Option<(Supernode, String)>,
    /// Reports each piece to the trace of the request that the layer is for.
    pub(super) _waiting: Option<Arc<Waiting>>,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// From peers or from the disk.
    Swarm(SwarmHandle),
    /// Whole and verified.
    Small(SmallContent),
}

impl Layer {
    pub(super) fn new(content: Content) -> Self {
        Self {
            content,
            validator: None,
            supernode: None,
            _waiting: None,
        }
    }

    /// The source's `ETag`, else its `Last-Modified`, of a layer that has no digest; when the
    /// supernode tells.
    pub fn validator(&self) -> Option<&str> {
        self.validator.as_deref()
    }

    /// Layers of the same source are not asked of this one's supernode for a minute.
    pub fn leave_supernode(&self, reason: &str) {
        if let Some((supernode, source)) = &self.supernode {
            supernode.avoid_for_source(source, LEAVE_TIME, reason.to_owned());
        }
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match &self.content {
            Content::Swarm(swarm) => swarm.geometry().length(),
            Content::Small(small) => small.bytes().len() as u64,
        }
    }

    /// The swarm that brings it; none for small content, which comes whole.
    pub fn swarm(&self) -> Option<&SwarmHandle> {
        match &self.content {
            Content::Swarm(swarm) => Some(swarm),
            Content::Small(_) => None,
        }
    }

    /// The bytes, when it is small content.
    pub(crate) fn small(&self) -> Option<&SmallContent> {
        match &self.content {
            Content::Swarm(_) => None,
            Content::Small(small) => Some(small),
        }
    }

    /// Whether it is complete and verified on this node.
    pub fn is_complete(&self) -> bool {
        self.swarm().is_none_or(|swarm| swarm.status().complete)
    }

    /// Returns once the whole of `range` is published, see [`SwarmHandle::published`].
    pub fn published(&self, range: &Range<u64>) -> impl Future<Output = ()> + Send + use<> {
        let published = self.swarm().map(|swarm| swarm.published(range));
        async move {
            if let Some(published) = published {
                published.await;
            }
        }
    }

    /// The verified bytes of `range`, in order, as they come.
    pub fn read(&self, range: Range<u64>) -> LayerReader {
        match &self.content {
            Content::Swarm(swarm) => swarm.read(range),
            Content::Small(small) => LayerReader::of_bytes(small.bytes(), range),
        }
    }

    /// Waits until the layer is complete and verified.
    ///
    /// # Errors
    /// The reason why the swarm is void.
    pub async fn completed(&self) -> Result<(), String> {
        let Some(swarm) = self.swarm() else {
            return Ok(());
        };
        let mut status = swarm.watch();
        let settled = status
            .wait_for(|status| status.complete || matches!(status.state, SwarmState::Void(_)));
        match settled.await.map(|status| status.state.clone()) {
            Ok(SwarmState::Void(reason)) => Err(reason),
            Ok(_) => Ok(()),
            Err(_) => Err("the node stops".to_owned()),
        }
    }
}
