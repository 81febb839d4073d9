//! What the files of one call share.

use flotilla_client::Node;
use flotilla_cluster::rate_limit::RateLimiter;
use tokio_util::sync::CancellationToken;

use crate::http::source_client::SourceClient;
use crate::options::GetOptions;

/// What the files of one call share.
pub(crate) struct Call {
    pub(crate) options: GetOptions,
    pub(crate) client: SourceClient,
    pub(crate) node: Option<Node>,
    pub(crate) limit: RateLimiter,
    pub(crate) shutdown: CancellationToken,
}
