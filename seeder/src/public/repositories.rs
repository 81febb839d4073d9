//! Repositories whose layers are for everybody, by the operator's word.

use std::fmt;
use std::str::FromStr;

use flotilla_registry::host::{RegistryHost, RegistryHostError};
use serde::{Deserialize, Serialize};
use url::Url;

/// OCI distribution-spec: clients may limit host and name to 255 characters.
const MAX_NAME_BYTES: usize = 255;

/// One repository of one registry, `HOST[:PORT]/REPOSITORY`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Repository {
    registry: RegistryHost,
    name: String,
}

impl Repository {
    /// The repository that a blob's URL names. None: the URL is no blob's, or the name is not one
    /// that every registry reads alike (`a/../b`, `a%2Fb`): it may be of another repository.
    pub(crate) fn of_blob(url: &Url) -> Option<Self> {
        let rest = url.path().strip_prefix("/v2/")?;
        let (name, _) = rest.rsplit_once("/blobs/")?;
        Some(Self {
            registry: RegistryHost::of_url(url)?,
            name: is_name(name).then(|| name.to_owned())?,
        })
    }
}

/// OCI distribution-spec, `<name>`: lower-case letters and digits, with separators inside.
fn is_name(name: &str) -> bool {
    let is_component = |component: &str| {
        let at_end = |byte: Option<&u8>| {
            byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        let bytes = component.as_bytes();
        at_end(bytes.first())
            && at_end(bytes.last())
            && bytes
                .iter()
                .all(|byte| at_end(Some(byte)) || b"._-".contains(byte))
            && !component.contains("..")
    };
    name.len() <= MAX_NAME_BYTES && name.split('/').all(is_component)
}

/// Repositories that the operator lists: `HOST[:PORT]/REPOSITORY`, or with `/*` after it all below
/// that name. The port is 443 unless given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OpenRepository {
    repository: Repository,
    all_below: bool,
}

/// A listed repository is not understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenRepositoryError {
    /// There is no `/` between a registry and a repository, or the name is none.
    #[error("open repository {0:?} is not HOST[:PORT]/REPOSITORY or HOST[:PORT]/REPOSITORY/*")]
    Form(String),
    /// The part before the first `/` is no registry.
    #[error(transparent)]
    Registry(#[from] RegistryHostError),
}

impl OpenRepository {
    pub(crate) fn has(&self, repository: &Repository) -> bool {
        let own = &self.repository;
        let below = || {
            let rest = repository.name.strip_prefix(&own.name);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        repository.registry == own.registry
            && if self.all_below {
                below()
            } else {
                repository.name == own.name
            }
    }
}

impl FromStr for Repository {
    type Err = OpenRepositoryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || OpenRepositoryError::Form(text.to_owned());
        let (registry, name) = text.split_once('/').ok_or_else(malformed)?;
        if !is_name(name) {
            return Err(malformed());
        }
        Ok(Self {
            registry: registry.parse()?,
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

impl TryFrom<String> for Repository {
    type Error = OpenRepositoryError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Repository> for String {
    fn from(repository: Repository) -> Self {
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

    fn has(listed: &str, url: &str) -> bool {
        let listed: OpenRepository = listed.parse().unwrap();
        Repository::of_blob(&url.parse().unwrap()).is_some_and(|named| listed.has(&named))
    }

    #[test]
    fn a_repository_is_listed_by_its_name_or_with_all_below() {
        let blob = |name: &str| format!("https://registry.example/v2/{name}/blobs/sha256:ab");
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
        assert!(has(listed, "http://registry.example:5000/v2/a/blobs/x"));
        assert!(!has(listed, "http://registry.example/v2/a/blobs/x"));
        assert!(!has(listed, "http://other.example:5000/v2/a/blobs/x"));
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
            let url = format!("https://registry.example/v2/{name}/blobs/sha256:ab");
            assert!(!has("registry.example/public/*", &url), "{name}");
        }
        // The URL's own dots are gone when it is read.
        let url = "https://registry.example/v2/public/../private/blobs/sha256:ab";
        assert!(!has("registry.example/public/*", url));
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
