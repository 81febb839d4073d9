//! What is asked for, and in whose name.

use flotilla_cluster::supernode_client::Supernode;
use flotilla_torrents::{ContentId, Digest};
use url::Url;

/// What to deliver, and in whose name.
#[derive(Clone, Debug)]
pub struct ContentRequest {
    /// Where the source has it.
    pub url: Url,
    /// The caller's credentials for the source.
    pub headers: Vec<(String, String)>,
    /// Its digest, when the URL names a blob or the caller knows it.
    pub digest: Option<Digest>,
    /// Query parameters that do not name the content, such as signatures; only without digest.
    pub filter_query: Vec<String>,
}

/// In whose name a swarm is opened, and opened again when its supernode is lost.
#[derive(Clone, Debug)]
pub(crate) enum Requester {
    /// A caller that pulls.
    Caller(ContentRequest),
    /// A supernode that wants the layer to be here before anybody pulls it.
    Order(PrefetchOrder),
}

/// A supernode's order of one layer.
#[derive(Clone, Debug)]
pub(crate) struct PrefetchOrder {
    pub(crate) supernode: Supernode,
    pub(crate) job: u64,
    pub(crate) content: ContentId,
}

/// What is known of a layer before it is opened.
#[derive(Clone, Debug, Default)]
pub struct LayerFacts {
    /// The images that it belongs to, as people name them; supernodes show them.
    pub images: Vec<String>,
    /// Its length, as the manifest says that names it.
    pub length: Option<u64>,
}
