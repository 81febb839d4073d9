//! Content for clients of the node's control socket, authorized like the requests of engines.

use std::sync::Arc;

use flotilla_client::control::ContentSource;
use flotilla_client::{ContentRequest, Layer, Node, OpenError};
use flotilla_registry::{BlobUrl, origin_of};
use flotilla_torrents::Digest;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use url::Url;

use crate::front::server::ProxyConfig;
use crate::layers::caller_check::CallerCheck;
use crate::layers::source::NotDelivered;
use crate::marks::set_mark;
use crate::stats::ProxyStats;

/// A node's content for its control socket. The source authorizes every caller: asked by this node
/// when the layer is here, by the supernode otherwise.
#[derive(Debug)]
pub struct CheckedContent {
    node: Node,
    callers: CallerCheck,
    stats: Arc<ProxyStats>,
}

impl CheckedContent {
    /// Content of `node`; marks are set in `stats`.
    ///
    /// # Errors
    /// A certificate file cannot be read.
    pub fn new(config: &ProxyConfig, node: Node, stats: Arc<ProxyStats>) -> anyhow::Result<Self> {
        let callers = CallerCheck::new(
            &config.registry_tls,
            &config.egress,
            &config.token_certificates,
        )?;
        Ok(Self {
            node,
            callers,
            stats,
        })
    }

    async fn checked(&self, mut request: ContentRequest) -> Result<Layer, OpenError> {
        let wanted = request.digest.take();
        // A digest names content for the blob's own URL only: a yes to another URL does not
        // authorize this blob. For other URLs the digest is compared once the content is here.
        let Some(digest) = wanted.filter(|digest| is_blob(&request.url, digest)) else {
            return self.node.open(request).await;
        };
        if is_plain(&request.headers)
            && let Some(layer) = self.node.local(&digest, &request.url).await
        {
            let length = layer.length();
            let admitted = self.callers.admit(&request.url, &request.headers, length);
            return match admitted.await {
                Ok(()) => Ok(layer),
                Err(NotDelivered { mark, reason }) => {
                    set_mark!(self.stats, mark, %digest, reason);
                    Err(OpenError::Unswarmable(reason))
                }
            };
        }
        request.digest = Some(digest);
        self.node.open(request).await
    }
}

impl ContentSource for CheckedContent {
    fn open(&self, request: ContentRequest) -> BoxFuture<'_, Result<Layer, OpenError>> {
        self.checked(request).boxed()
    }

    fn origin_of(&self, url: &Url) -> String {
        origin_of(url)
    }
}

/// Whether `url` is the blob's with this very digest.
fn is_blob(url: &Url, digest: &Digest) -> bool {
    BlobUrl::of(url).is_some_and(|blob| blob.digest() == digest)
}

/// Whether they are what engines send: another header may make the source answer about something
/// else.
fn is_plain(headers: &[(String, String)]) -> bool {
    match headers {
        [] => true,
        [(name, _)] => name.eq_ignore_ascii_case("authorization"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use flotilla_torrents::DigestHasher;

    use super::*;

    #[test]
    fn a_digest_counts_for_its_own_blob_only() {
        let digest = DigestHasher::sha256_of(b"a");
        let other = DigestHasher::sha256_of(b"b");
        let is_blob = |url: String| super::is_blob(&Url::parse(&url).unwrap(), &digest);
        assert!(is_blob(format!(
            "https://r.example/v2/team/app/blobs/{digest}"
        )));
        for url in [
            format!("https://r.example/v2/team/app/blobs/{other}"),
            format!("https://r.example/v2/team/app/blobs/{digest}?ns=x"),
            format!("https://r.example/v2/team/app/blobs/{digest}#x"),
            format!("https://r.example/files/{digest}"),
            format!("https://r.example/v2/blobs/{digest}"),
        ] {
            assert!(!is_blob(url.clone()), "{url}");
        }
    }

    #[test]
    fn only_an_authorization_is_what_engines_send() {
        let header = |name: &str| (name.to_owned(), "x".to_owned());
        assert!(is_plain(&[]) && is_plain(&[header("authorization")]));
        assert!(!is_plain(&[header("X-Forwarded-Host")]));
        assert!(!is_plain(&[
            header("Authorization"),
            header("Authorization")
        ]));
    }
}
