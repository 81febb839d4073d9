//! The supernodes of a cluster, and which of them to ask.

use url::Url;

use super::{CONNECT_TIMEOUT, Supernode, SupernodeError};
use crate::rendezvous;

/// All supernodes of the cluster.
#[derive(Clone, Debug)]
pub struct Supernodes(Vec<Supernode>);

impl Supernodes {
    /// Those of a cluster.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(urls: &[Url], join_token: Option<&str>) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self(
            urls.iter()
                .map(|url| Supernode::new(url.clone(), join_token, http.clone()))
                .collect(),
        ))
    }

    /// All of them, as they were listed.
    pub fn all(&self) -> &[Supernode] {
        &self.0
    }

    /// The supernodes to ask for `key`, the responsible one first; those that failed a
    /// moment ago are left out.
    pub fn for_key(&self, key: &str) -> impl Iterator<Item = &Supernode> {
        rendezvous::ranked(key, self.0.iter().map(|supernode| supernode.url().as_str()))
            .into_iter()
            .filter_map(|index| self.0.get(index))
            .filter(|supernode| !supernode.is_avoided())
    }

    /// Why none of them can be asked now.
    pub fn none_healthy(&self) -> SupernodeError {
        let failures: Vec<String> = self.0.iter().filter_map(Supernode::last_failure).collect();
        SupernodeError::NoneHealthy(failures.join("; "))
    }
}
