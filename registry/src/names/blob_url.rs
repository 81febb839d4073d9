//! URLs of blobs: which registry, which repository, which digest.

use std::fmt;

use flotilla_torrents::Digest;
use url::Url;

use crate::names::api_path::{ApiPath, Endpoint, PathPrefix};
use crate::names::registry_origin::RegistryOrigin;
use crate::names::repository::Repository;

/// A URL within a registry's API, read strictly: `http[s]://HOST[:PORT][/PREFIX]/v2/…` without user,
/// password, query and fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ApiUrl {
    /// Scheme, host and port.
    pub registry: RegistryOrigin,
    /// The path.
    pub path: ApiPath,
}

/// The URL of a blob: `http[s]://HOST[:PORT][/PREFIX]/v2/NAME/blobs/DIGEST` (OCI distribution-spec,
/// "Pulling blobs").
///
/// What another URL answers says nothing about who may have the blob, nor what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BlobUrl {
    registry: RegistryOrigin,
    prefix: PathPrefix,
    repository: Repository,
    digest: Digest,
}

impl ApiUrl {
    /// None: `url` is not within a registry's API, or may be read in several ways.
    pub fn of(url: &Url) -> Option<Self> {
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_bare || !matches!(url.scheme(), "http" | "https") {
            return None;
        }
        Some(Self {
            registry: RegistryOrigin::of_url(url)?,
            path: url.path().parse().ok()?,
        })
    }

    /// As a URL.
    pub fn to_url(&self) -> Option<Url> {
        self.registry.url(&self.path.to_string())
    }
}

impl BlobUrl {
    /// The blob of `registry` at `path`; none if the path is not a blob's.
    pub fn new(registry: RegistryOrigin, path: ApiPath) -> Option<Self> {
        let Endpoint::Blob(repository, digest) = path.endpoint else {
            return None;
        };
        Some(Self {
            registry,
            prefix: path.prefix,
            repository,
            digest,
        })
    }

    /// None: `url` is not a blob's, or may be read in several ways.
    pub fn of(url: &Url) -> Option<Self> {
        let ApiUrl { registry, path } = ApiUrl::of(url)?;
        Self::new(registry, path)
    }

    /// Scheme, host and port of the registry.
    pub fn registry(&self) -> &RegistryOrigin {
        &self.registry
    }

    /// Where on its host the registry's API lies.
    pub fn prefix(&self) -> &PathPrefix {
        &self.prefix
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Registry and repository, as people name them: `reg.test:5000/team/app`.
    pub fn name(&self) -> String {
        let Self {
            prefix, repository, ..
        } = self;
        format!("{}{prefix}/{repository}", self.registry.short_host())
    }

    /// As a URL.
    pub fn to_url(&self) -> Option<Url> {
        self.to_string().parse().ok()
    }
}

impl fmt::Display for BlobUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, repository) = (self.prefix.clone(), self.repository.clone());
        let path = ApiPath::blob(prefix, repository, self.digest.clone());
        write!(f, "{}{path}", self.registry.base())
    }
}

/// The source whose word counts on who may have what it gave: scheme, host and port of `url`, and
/// where on that host a registry's API lies. Another path of the host may be a file's that a user has
/// put there, or another registry.
pub fn origin_of(url: &Url) -> String {
    let prefix = ApiUrl::of(url).map(|url| url.path.prefix);
    let origin = url.origin().ascii_serialization();
    format!("{origin}{}", prefix.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn blob(base: &str) -> Option<BlobUrl> {
        BlobUrl::of(&format!("{base}/blobs/{DIGEST}").parse().unwrap())
    }

    #[test]
    fn a_blob_is_named_by_registry_repository_and_digest() {
        for (base, name, origin) in [
            ("https://reg.test/v2/a", "reg.test/a", "https://reg.test"),
            (
                "http://reg.test:5000/v2/team/app",
                "reg.test:5000/team/app",
                "http://reg.test:5000",
            ),
            (
                "http://reg.test:443/v2/a",
                "reg.test:443/a",
                "http://reg.test:443",
            ),
            (
                "https://reg.test:443/v2/a",
                "reg.test/a",
                "https://reg.test",
            ),
            ("https://[FD00::1]/v2/a", "[fd00::1]/a", "https://[fd00::1]"),
            (
                "https://reg.test/artifactory/api/docker/Local/v2/a/b",
                "reg.test/artifactory/api/docker/Local/a/b",
                "https://reg.test/artifactory/api/docker/Local",
            ),
        ] {
            let found = blob(base).unwrap();
            assert_eq!(found.name(), name);
            let url = found.to_url().unwrap();
            assert_eq!(BlobUrl::of(&url), Some(found));
            assert_eq!(origin_of(&url), origin);
        }
    }

    #[test]
    fn what_is_beside_the_path_makes_it_another_url() {
        assert!(blob("https://reg.test/v2/a").is_some());
        for url in [
            format!("https://reg.test/v2/a/blobs/{DIGEST}?x"),
            format!("https://reg.test/v2/a/blobs/{DIGEST}?"),
            format!("https://reg.test/v2/a/blobs/{DIGEST}#x"),
            format!("https://u@reg.test/v2/a/blobs/{DIGEST}"),
            format!("https://:p@reg.test/v2/a/blobs/{DIGEST}"),
            format!("ftp://reg.test/v2/a/blobs/{DIGEST}"),
            format!("file:///v2/a/blobs/{DIGEST}"),
            "https://reg.test/v2/a/manifests/1".to_owned(),
        ] {
            assert_eq!(BlobUrl::of(&url.parse().unwrap()), None, "{url}");
        }
    }

    /// In a repository of files anyone who may write puts what looks like a blob.
    #[test]
    fn another_path_of_the_host_is_another_source() {
        let of = |path: &str| origin_of(&format!("https://h.test{path}").parse().unwrap());
        let blob = format!("v2/a/blobs/{DIGEST}");
        let origins = [
            of(&format!("/{blob}")),
            of(&format!("/repository/docker/{blob}")),
            of(&format!("/repository/files/{blob}")),
        ];
        assert_eq!(
            origins,
            [
                "https://h.test",
                "https://h.test/repository/docker",
                "https://h.test/repository/files"
            ]
        );
        assert_eq!(of("/files/a.iso?x=1"), "https://h.test");
    }
}
