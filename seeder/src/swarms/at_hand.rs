//! Content for nodes that another party has authorized.

use flotilla_cluster::messages::swarms::{OpenRequest, OpenResponse};
use flotilla_registry::origin_of;
use flotilla_torrents::ContentId;
use url::Url;

use super::{OpenContent, SwarmOpener, url_of};

impl SwarmOpener {
    /// The answer without asking the source, which the caller of this has done for the node; none
    /// when `content` is not here, or not whole.
    pub(crate) async fn open_at_hand(
        &self,
        request: &OpenRequest,
        content: &ContentId,
    ) -> Option<OpenResponse> {
        let url = url_of(request).ok()?;
        let opened = self.at_hand(&url, request, content).await?;
        Some(self.answer(Ok(opened), request).await)
    }

    async fn at_hand(
        &self,
        url: &Url,
        request: &OpenRequest,
        content: &ContentId,
    ) -> Option<OpenContent> {
        let small = self.small.get(&self.key(url, request)).await;
        if let Some(small) = small.filter(|small| small.content() == content) {
            return Some(OpenContent::Small(small));
        }
        let origin = origin_of(url);
        if let Some(small) = self.engine.small(content, &origin).await.ok()? {
            return Some(OpenContent::Small(small));
        }
        let store = self.engine.store();
        let layer = store.layer(content)?;
        layer.sealed()?;
        store.check_origin(layer.origin(), &origin).ok()?;
        let known = self.run(&origin, layer.content(), layer.geometry());
        known.await.ok().map(OpenContent::Swarm)
    }
}
