//! Through the node's running proxy: the content stays in its cache, and the file shares the bytes.

use std::sync::atomic::{AtomicBool, Ordering};

use flotilla_client::ContentRequest;
use flotilla_client::control::client::{DaemonClient, FetchError, FetchProgress, FetchedFile};
use flotilla_cluster::redacted;
use url::Url;

use super::error::GetError;
use super::events::{GetEvent, Reporter, Way};
use super::from_swarm::SwarmFailure;
use crate::files::expected_digest::ExpectedDigest;
use crate::http::source_client::SourceClient;

/// One content at the daemon.
pub(crate) struct FromDaemon<'a> {
    pub(crate) daemon: &'a DaemonClient,
    pub(crate) client: &'a SourceClient,
    pub(crate) url: &'a Url,
    pub(crate) filter_query: &'a [String],
    pub(crate) digest: Option<&'a ExpectedDigest>,
    pub(crate) reporter: &'a Reporter,
    /// Whether anything of the content was announced.
    pub(crate) has_begun: AtomicBool,
}

impl FromDaemon<'_> {
    /// Brings the whole into the daemon's cache, where it stays while the result lives.
    pub(crate) async fn fetch(&self) -> Result<FetchedFile, SwarmFailure> {
        let (url, headers) = self.client.as_request(self.url);
        let digest = match self.digest {
            Some(ExpectedDigest::Strong(digest)) => Some(digest.clone()),
            // Nothing that the cluster knows; it is compared at the end.
            Some(ExpectedDigest::Md5(_)) | None => None,
        };
        let request = ContentRequest {
            url,
            headers,
            digest,
            filter_query: self.filter_query.to_vec(),
        };
        let fetched = self.daemon.fetch(&request, |progress| self.tell(progress));
        let fetched = fetched.await.map_err(|error| self.failure(error))?;
        self.begin();
        Ok(fetched)
    }

    fn tell(&self, FetchProgress { held, length }: FetchProgress) {
        self.begin();
        self.reporter.progress(held, Some(length), 0);
    }

    fn begin(&self) {
        if !self.has_begun.swap(true, Ordering::Relaxed) {
            self.reporter.tell(&GetEvent::Started {
                url: redacted(self.url),
                way: Way::Daemon,
            });
        }
    }

    fn failure(&self, error: FetchError) -> SwarmFailure {
        match (error, self.digest) {
            (FetchError::Refused { status, .. }, _) => SwarmFailure::Final(GetError::Refused {
                url: redacted(self.url),
                status,
                reason: reqwest::StatusCode::from_u16(status)
                    .ok()
                    .and_then(|status| status.canonical_reason())
                    .unwrap_or_default(),
            }),
            (FetchError::OtherDigest { found }, Some(expected)) => {
                SwarmFailure::Final(GetError::Digest {
                    expected: Box::new(expected.clone()),
                    found: Box::new(ExpectedDigest::Strong(found)),
                })
            }
            (error, _) => SwarmFailure::Switch(error.to_string(), None),
        }
    }
}
