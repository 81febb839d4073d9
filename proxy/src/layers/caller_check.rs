//! Authorizes every caller at the registry, also for a layer that is already here.

use flotilla_registry::authorization::Authorizer;
use flotilla_registry::egress::Egress;
use flotilla_registry::source::{Source, SourceConfig, SourceError};
use flotilla_registry::tls::RegistryTls;
use flotilla_registry::token::{TokenCertificate, TokenVerifier};
use url::Url;

use crate::layers::source::NotDelivered;
use crate::marks::Mark;

/// Asks registries whether a caller may have a blob that is here. A yes is valid for a minute at most.
#[derive(Debug)]
pub(crate) struct CallerCheck(Authorizer);

impl CallerCheck {
    pub(crate) fn new(
        tls: &RegistryTls,
        egress: &Egress,
        tokens: &[TokenCertificate],
    ) -> anyhow::Result<Self> {
        let config = SourceConfig {
            tls: tls.clone(),
            egress: egress.clone(),
            rate: None,
        };
        let tokens = TokenVerifier::new(tokens)?;
        Ok(Self(Authorizer::for_blobs(Source::new(&config)?, tokens)))
    }

    /// The blob at `url` is gone from its registry.
    pub(crate) async fn forget(&self, url: &Url) {
        self.0.forget(url).await;
    }

    /// # Errors
    /// The registry does not say yes. Its own answer is the one to give.
    pub(crate) async fn admit(
        &self,
        url: &Url,
        headers: &[(String, String)],
        length: u64,
    ) -> Result<(), NotDelivered> {
        let checked = self.0.check_blob(url, headers, length).await;
        checked.map_err(|error| {
            let mark = match *error {
                SourceError::Refused { .. } => Mark::CallerRefused,
                _ => Mark::CallerUnchecked,
            };
            NotDelivered::new(mark, &error)
        })
    }
}
