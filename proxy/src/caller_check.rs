//! Every caller is authorized at the registry, also for a layer that is already here.

use std::path::PathBuf;

use flotilla_seeder::authorization::Authorizer;
use flotilla_seeder::source::{Source, SourceConfig};
use http::HeaderValue;
use url::Url;

use crate::layer_source::NotDelivered;

/// Asks the registry whether a caller may have a blob; a yes is kept for a short time.
pub(crate) struct CallerCheck {
    authorizer: Authorizer,
}

impl CallerCheck {
    /// # Errors
    /// A certificate file cannot be read.
    pub(crate) fn new(extra_roots: &[PathBuf], insecure_skip_verify: bool) -> anyhow::Result<Self> {
        let source = Source::new(&SourceConfig {
            registry_ca: extra_roots.to_vec(),
            insecure_skip_verify,
            rate: None,
        })?;
        Ok(Self {
            authorizer: Authorizer::for_blobs(source),
        })
    }

    /// # Errors
    /// The registry does not say yes; it shall say so itself.
    pub(crate) async fn admit(
        &self,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<(), NotDelivered> {
        let headers = match authorization.map(HeaderValue::to_str) {
            None => Vec::new(),
            Some(Ok(value)) => vec![("Authorization".to_owned(), value.to_owned())],
            Some(Err(_)) => return Err(NotDelivered("the Authorization is not text".to_owned())),
        };
        let checked = self.authorizer.check(url, &headers).await;
        checked
            .map(|_| ())
            .map_err(|error| NotDelivered(error.to_string()))
    }
}
