//! The supernode's own logins at registries: for preheating, and for layers whose callers may not
//! have them any longer.
//!
//! Its credentials go to registries that the operator lists, by the scheme he lists them with, and
//! to the token service that such a registry names. A registry with HTTPS does not get them sent
//! anywhere without.

mod auth_file;
mod credential_helper;
mod credentials;
mod error;
mod logins;
mod token_service;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use url::Url;

use self::auth_file::AuthFile;
pub use self::auth_file::AuthFileError;
pub use self::credential_helper::HelperError;
pub use self::credentials::LoginHeaders;
pub use self::error::LoginError;
use self::logins::Logins;
use crate::challenge::Challenge;
use crate::names::api_path::{ApiPath, Endpoint, PathPrefix};
use crate::names::blob_url::ApiUrl;
use crate::names::registry_origin::RegistryOrigin;
use crate::names::repository::Repository;
use crate::source::Source;

/// A login with a password itself is asked for anew after this: a credential helper may know
/// another one by then.
const BASIC_TTL: Duration = Duration::from_secs(5 * 60);
/// A registry that wanted no login may want one after this.
const ANONYMOUS_TTL: Duration = Duration::from_secs(60);
/// Logins kept; each is a token of a few KiB.
const MAX_KEPT: u64 = 1000;

/// Which registries the supernode turns to in its own name, and with which login.
///
/// # Defaults
/// None.
#[derive(Clone, Debug, Default)]
pub struct LoginConfig {
    /// A file as Docker or podman writes it; the registries that it names are listed thereby.
    pub auth_file: Option<PathBuf>,
    /// Further registries, also those without a login.
    pub registries: Vec<RegistryOrigin>,
}

/// Logs in, and remembers it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RegistryLogins(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Source,
    file: Option<AuthFile>,
    listed: Vec<RegistryOrigin>,
    kept: Cache<Key, Login>,
}

/// What a login is for, and the version of the file.
type Key = (Place, u64);

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    registry: RegistryOrigin,
    prefix: PathPrefix,
    repository: Repository,
}

/// The value of an `Authorization` header, if the registry wants one.
#[derive(Clone)]
struct Login {
    authorization: Option<String>,
    lifetime: Duration,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

struct Lifetime;

impl Expiry<Key, Login> for Lifetime {
    fn expire_after_create(&self, _key: &Key, login: &Login, _now: Instant) -> Option<Duration> {
        Some(login.lifetime)
    }
}

impl RegistryLogins {
    /// # Errors
    /// The file cannot be read, or is malformed.
    pub fn new(config: &LoginConfig, source: Source) -> Result<Self, AuthFileError> {
        let file = config
            .auth_file
            .as_deref()
            .map(AuthFile::open)
            .transpose()?;
        Ok(Self(Arc::new(Shared {
            source,
            file,
            listed: config.registries.clone(),
            kept: Cache::builder()
                .max_capacity(MAX_KEPT)
                .expire_after(Lifetime)
                .build(),
        })))
    }

    /// The listed registry that an image's `host` and `port` mean.
    pub async fn listed(&self, host: &str, port: Option<u16>) -> Option<RegistryOrigin> {
        let logins = self.file().await;
        let mut all = self.all(logins.as_deref());
        all.find(|own| own.is_called(host, port)).cloned()
    }

    /// Whether `url` is at a listed registry, by the scheme that it is listed with.
    pub async fn lists(&self, url: &Url) -> bool {
        let registry = RegistryOrigin::of_url(url);
        let logins = self.file().await;
        let mut all = self.all(logins.as_deref());
        registry.is_some_and(|registry| all.any(|own| *own == registry))
    }

    /// What to send along to read `url`, which is in a repository of a listed registry.
    ///
    /// # Errors
    /// The registry is not listed, or there is no login at it.
    pub async fn headers(&self, url: &Url) -> Result<LoginHeaders, Arc<LoginError>> {
        let (key, logins) = self.key(url).await?;
        let login = self.log_in(url, &key, logins.as_deref());
        let login = self.0.kept.try_get_with(key.clone(), login).await?;
        let authorization = login
            .authorization
            .map(|value| ("Authorization".to_owned(), value));
        Ok(authorization.into_iter().collect())
    }

    /// Logs in anew next time: the registry does not take what [`headers`](Self::headers) gave.
    pub async fn forget(&self, url: &Url) {
        if let Ok((key, _)) = self.key(url).await {
            self.0.kept.invalidate(&key).await;
        }
    }

    async fn key(&self, url: &Url) -> Result<(Key, Option<Arc<Logins>>), LoginError> {
        let place = Place::of(url).ok_or(LoginError::NoRepository)?;
        let logins = self.file().await;
        if !self
            .all(logins.as_deref())
            .any(|own| *own == place.registry)
        {
            return Err(LoginError::NotListed(place.registry.to_string()));
        }
        let version = logins.as_ref().map_or(0, |logins| logins.version);
        Ok(((place, version), logins))
    }

    async fn file(&self) -> Option<Arc<Logins>> {
        match &self.0.file {
            Some(file) => Some(file.logins().await),
            None => None,
        }
    }

    fn all<'a>(&'a self, logins: Option<&'a Logins>) -> impl Iterator<Item = &'a RegistryOrigin> {
        let in_file = logins.into_iter().flat_map(Logins::registries);
        self.0.listed.iter().chain(in_file)
    }

    /// Takes up the challenge that `url` answers without a login.
    async fn log_in(
        &self,
        url: &Url,
        (place, _): &Key,
        logins: Option<&Logins>,
    ) -> Result<Login, LoginError> {
        let (status, headers) = self.0.source.ask(url).await?;
        if status != http::StatusCode::UNAUTHORIZED {
            return Ok(Login {
                authorization: None,
                lifetime: ANONYMOUS_TTL,
            });
        }
        let Place {
            registry,
            repository,
            ..
        } = place;
        let name = || registry.to_string();
        let challenge =
            Challenge::of_answer(&headers).ok_or_else(|| LoginError::Challenge(name()))?;
        let credentials = match logins {
            Some(logins) => logins.credentials(registry, &place.path()).await?,
            None => None,
        };
        let (realm, service, scope) = match challenge {
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => (realm, service, scope),
            Challenge::Basic => {
                let basic = credentials.and_then(|credentials| credentials.basic());
                return Ok(Login {
                    authorization: Some(basic.ok_or_else(|| LoginError::NoCredentials(name()))?),
                    lifetime: BASIC_TTL,
                });
            }
        };
        if credentials.is_some() && !may_have_credentials(registry, &realm) {
            return Err(LoginError::PlainRealm(name()));
        }
        let request = token_service::TokenRequest {
            realm,
            service,
            scope: scope.unwrap_or_else(|| format!("repository:{repository}:pull")),
        };
        let token = request.send(&self.0.source, credentials.as_ref()).await;
        let token = token.map_err(|error| error.of(registry))?;
        Ok(Login {
            authorization: Some(format!("Bearer {}", token.value)),
            lifetime: token.lifetime,
        })
    }
}

/// A registry names its token service, and is believed; but what goes to one with TLS is not sent
/// about without.
fn may_have_credentials(registry: &RegistryOrigin, realm: &Url) -> bool {
    registry.is_plain() || realm.scheme() == "https"
}

impl Place {
    /// The repository that a blob or a manifest is in.
    fn of(url: &Url) -> Option<Self> {
        let ApiUrl { registry, path } = ApiUrl::of(url)?;
        let ApiPath { prefix, endpoint } = path;
        match endpoint {
            Endpoint::Blob(repository, _) | Endpoint::Manifest(repository, _) => Some(Self {
                registry,
                prefix,
                repository,
            }),
            _ => None,
        }
    }

    /// As files of credentials name it behind the host.
    fn path(&self) -> String {
        let path = format!("{}/{}", self.prefix, self.repository);
        path.trim_start_matches('/').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_for_https_stay_with_https() {
        for (registry, realm, may) in [
            ("harbor.test", "https://harbor.test/service/token", true),
            ("docker.io", "https://auth.docker.io/token", true),
            ("harbor.test", "http://harbor.test/service/token", false),
            (
                "http://harbor.test:5000",
                "http://harbor.test:5001/token",
                true,
            ),
        ] {
            let may_have =
                may_have_credentials(&registry.parse().unwrap(), &realm.parse().unwrap());
            assert_eq!(may_have, may, "{registry} {realm}");
        }
    }

    #[test]
    fn a_url_names_its_repository() {
        let blob = "blobs/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (url, path) in [
            (
                format!("https://a.test/v2/team/app/{blob}"),
                Some("team/app"),
            ),
            (
                "https://a.test/v2/app/manifests/1.0".to_owned(),
                Some("app"),
            ),
            (
                format!("https://a.test/below/v2/app/{blob}"),
                Some("below/app"),
            ),
            (format!("https://a.test/v2/{blob}"), None),
            ("https://a.test/v2/".to_owned(), None),
            ("https://a.test/v2/app/tags/list".to_owned(), None),
            ("https://a.test/v2/app/blobs/x".to_owned(), None),
            ("https://a.test/files/blobs/x".to_owned(), None),
        ] {
            let place = Place::of(&url.parse().unwrap());
            assert_eq!(place.map(|place| place.path()).as_deref(), path, "{url}");
        }
    }
}
