//! In whose name a registry is read for a preheat.

use std::fmt;
use std::sync::Arc;

use flotilla_registry::login::{LoginError, LoginHeaders, RegistryLogins};
use flotilla_registry::names::image_reference::ImageReference;
use flotilla_registry::names::registry_origin::RegistryOrigin;
use parking_lot::Mutex;
use url::Url;

const UNAUTHORIZED: u16 = 401;
const FORBIDDEN: u16 = 403;

/// An `Authorization` header that came with a request: Harbor's providers get a token that reads
/// one repository for 30 minutes.
#[derive(Default)]
pub(crate) struct LentAuthorization(Mutex<Lent>);

#[derive(Default)]
struct Lent {
    value: Option<String>,
    was_refused: bool,
}

impl fmt::Debug for LentAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LentAuthorization")
    }
}

impl LentAuthorization {
    /// Takes the place of one that was lent before.
    pub(super) fn lend(&self, value: String) {
        *self.lock() = Lent {
            value: Some(value),
            was_refused: false,
        };
    }

    /// Whether there was one, which is not used any longer.
    fn refuse(&self) -> bool {
        let mut lent = self.lock();
        let was_lent = lent.value.take().is_some();
        lent.was_refused |= was_lent;
        was_lent
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Lent> {
        self.0.lock()
    }
}

/// What was lent, for as long as the registry takes it, then the supernode's own login.
#[derive(Clone, Copy)]
pub(super) struct Identity<'a> {
    logins: &'a RegistryLogins,
    lent: &'a LentAuthorization,
}

/// There is no login at a registry.
#[derive(Debug)]
pub(crate) struct IdentityError {
    lent_was_refused: bool,
    error: Arc<LoginError>,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lent_was_refused {
            f.write_str(
                "the registry does not take the token that came with the request; without it: ",
            )?;
        }
        self.error.fmt(f)
    }
}

impl std::error::Error for IdentityError {}

impl<'a> Identity<'a> {
    pub(super) fn new(logins: &'a RegistryLogins, lent: &'a LentAuthorization) -> Self {
        Self { logins, lent }
    }

    /// The registry of an image, if the operator has listed it.
    pub(super) async fn listed(&self, name: &ImageReference) -> Option<RegistryOrigin> {
        self.logins.listed(&name.host, name.port).await
    }

    /// What to send along to read `url`, at a listed registry.
    pub(super) async fn headers(&self, url: &Url) -> Result<LoginHeaders, IdentityError> {
        let lent = self.lent.lock().value.clone();
        if let Some(value) = lent {
            return Ok(vec![("Authorization".to_owned(), value)]);
        }
        let headers = self.logins.headers(url).await;
        headers.map_err(|error| IdentityError {
            lent_was_refused: self.lent.lock().was_refused,
            error,
        })
    }

    /// After an answer: whether [`headers`](Self::headers) may well be others next time, because
    /// these are refused.
    pub(super) async fn may_change(&self, status: u16, url: &Url) -> bool {
        if matches!(status, UNAUTHORIZED | FORBIDDEN) && self.lent.refuse() {
            return true;
        }
        if status == UNAUTHORIZED {
            // What was kept may have expired.
            self.logins.forget(url).await;
        }
        status == UNAUTHORIZED
    }
}
