//! Repositories whose layers are public, by the operator's word.

use std::fmt;
use std::str::FromStr;

use flotilla_registry::names::host::{RegistryHost, RegistryHostError};
use flotilla_registry::{BlobUrl, Repository};
use serde::{Deserialize, Serialize};
use url::Url;

/// One repository of one registry, `HOST[:PORT]/REPOSITORY`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct PublicRepository {
    registry: RegistryHost,
    name: Repository,
}

impl PublicRepository {
    /// The repository that a blob's URL names. None: the URL is no blob's, or the name is not one
    /// that every registry reads alike (`a/../b`, `a%2Fb`): it may be of another repository. A
    /// registry below a path of its host cannot be listed.
    pub(crate) fn of_blob(url: &Url) -> Option<Self> {
        let blob = BlobUrl::of(url).filter(|blob| blob.prefix().is_empty())?;
        Some(Self {
            registry: blob.registry().host().clone(),
            name: blob.repository().clone(),
        })
    }
}

/// Repositories that the operator lists: `HOST[:PORT]/REPOSITORY`, or with `/*` after it all below
/// that name. The port is 443 unless given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OpenRepository {
    repository: PublicRepository,
    all_below: bool,
}

/// A listed repository is not understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenRepositoryError {
    /// There is no `/` between a registry and a repository, or the name is malformed.
    #[error("open repository {0:?} is not HOST[:PORT]/REPOSITORY or HOST[:PORT]/REPOSITORY/*")]
    Form(String),
    /// The part before the first `/` is no registry.
    #[error(transparent)]
    Registry(#[from] RegistryHostError),
}

impl OpenRepository {
    pub(crate) fn has(&self, repository: &PublicRepository) -> bool {
        let own = &self.repository;
        own.registry.means(&repository.registry)
            && if self.all_below {
                repository.name.is_below(&own.name)
            } else {
                repository.name == own.name
            }
    }
}

impl FromStr for PublicRepository {
    type Err = OpenRepositoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || OpenRepositoryError::Form(text.to_owned());
        let (registry, name) = text.split_once('/').ok_or_else(malformed)?;
        let name = name.parse().map_err(|_| malformed())?;
        Ok(Self {
            registry: registry.parse()?,
            name,
        })
    }
}

impl fmt::Display for PublicRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

impl TryFrom<String> for PublicRepository {
    type Error = OpenRepositoryError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PublicRepository> for String {
    fn from(repository: PublicRepository) -> Self {
        repository.to_string()
    }
}

impl FromStr for OpenRepository {
    type Err = OpenRepositoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (repository, all_below) = match text.strip_suffix("/*") {
            Some(repository) => (repository, true),
            None => (text, false),
        };
        let repository = repository.parse().map_err(|error| match error {
            // The whole is what the operator wrote.
            OpenRepositoryError::Form(_) => OpenRepositoryError::Form(text.to_owned()),
            other => other,
        });
        Ok(Self {
            repository: repository?,
            all_below,
        })
    }
}

impl fmt::Display for OpenRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.all_below { "/*" } else { "" };
        write!(f, "{}{below}", self.repository)
    }
}

impl TryFrom<String> for OpenRepository {
    type Error = OpenRepositoryError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<OpenRepository> for String {
    fn from(repository: OpenRepository) -> Self {
        repository.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn has(listed: &str, url: &str) -> bool {
        let listed: OpenRepository = listed.parse().unwrap();
        PublicRepository::of_blob(&url.parse().unwrap()).is_some_and(|named| listed.has(&named))
    }

    #[test]
    fn a_repository_is_listed_by_its_name_or_with_all_below() {
        let blob = |name: &str| format!("https://registry.example/v2/{name}/blobs/{DIGEST}");
        let one = "Registry.example/public/app";
        assert!(has(one, &blob("public/app")));
        for other in ["public", "public/app/a", "public/app2", "private/app"] {
            assert!(!has(one, &blob(other)), "{other}");
        }
        let below = "registry.example:443/public/*";
        assert!(has(below, &blob("public/app")) && has(below, &blob("public/a/b")));
        for other in ["public", "publicity/app", "private/public/app"] {
            assert!(!has(below, &blob(other)), "{other}");
        }
    }

    #[test]
    fn the_registry_counts_with_its_port() {
        let listed = "registry.example:5000/a";
        let blob = |base: &str| format!("{base}/v2/a/blobs/{DIGEST}");
        assert!(has(listed, &blob("http://registry.example:5000")));
        for other in [
            "http://registry.example",
            "http://other.example:5000",
            "http://registry.example:5000/below",
        ] {
            assert!(!has(listed, &blob(other)), "{other}");
        }
    }

    #[test]
    fn names_that_registries_may_read_as_others_are_in_no_list() {
        for name in [
            "public/%2e%2e/private",
            "public/..%2Fprivate",
            "public%2F..%2Fprivate",
            "public//private",
            "public/a..b",
            "public/.a",
            "public/A",
            "public/",
        ] {
            let url = format!("https://registry.example/v2/{name}/blobs/{DIGEST}");
            assert!(!has("registry.example/public/*", &url), "{name}");
        }
        // The URL's own dots are gone when it is read.
        let url = format!("https://registry.example/v2/public/../private/blobs/{DIGEST}");
        assert!(!has("registry.example/public/*", &url));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "",
            "registry.example",
            "registry.example/",
            "registry.example/*",
            "*/public",
            "registry.example/a*",
            "registry.example/a/*/b",
            "https://registry.example/a",
            "registry.example/../a",
        ] {
            assert!(text.parse::<OpenRepository>().is_err(), "{text}");
        }
        let read: OpenRepository = "a.example/b/*".parse().unwrap();
        assert_eq!(read.to_string(), "a.example:443/b/*");
        assert_eq!(read.to_string().parse::<OpenRepository>().unwrap(), read);
    }
}
