//! From an image's name to its blobs, at its registry.

use bytes::Bytes;
use flotilla_registry::names::api_path::{ApiPath, PathPrefix};
use flotilla_registry::names::image_reference::ImageReference;
use flotilla_registry::names::registry_origin::RegistryOrigin;
use flotilla_registry::source::{Source, SourceError};
use flotilla_registry::{ApiUrl, Reference};
use flotilla_torrents::{Digest, DigestHasher};
use http::StatusCode;
use serde::Deserialize;
use url::Url;

use super::identity::{Identity, IdentityError};
use super::manifest::{Blob, Manifest, ManifestError, Platform};

/// Registries take manifests of up to this (OCI distribution-spec, "Pushing manifests").
const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
/// Manifests of one image, for all its platforms.
const MAX_MANIFESTS: usize = 128;
/// Indexes in indexes.
const DEEPEST: usize = 3;
/// Layers and configurations of one image, for all its platforms.
const MAX_BLOBS: usize = 8192;
/// Of a registry's own words.
const MAX_REASON_LENGTH: usize = 300;

/// What Docker's engine accepts, each in a line of its own, as it does (moby,
/// distribution/registry.go).
const ACCEPTED: [&str; 6] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/json",
];

/// An image does not lead to its blobs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error(
        "registry {0} is not listed: the supernode's operator does that with --preheat-registry, or with a login in the file of --registry-auth"
    )]
    NotListed(String),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the registry answered {status}{said}")]
    Refused { status: u16, said: String },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("the registry gave another manifest than {0}")]
    Digest(Box<Digest>),
    #[error("the image is not for {wanted}; it is for {found}")]
    Platform { wanted: String, found: String },
    #[error("the image is more than {0} {1}")]
    TooMuch(usize, &'static str),
    #[error("the image's name makes no valid URL")]
    Url,
}

/// An image at its registry.
pub(super) struct Image<'a> {
    source: &'a Source,
    identity: Identity<'a>,
    registry: RegistryOrigin,
    name: &'a ImageReference,
}

impl<'a> Image<'a> {
    /// # Errors
    /// The operator has not listed its registry.
    pub(super) async fn find(
        source: &'a Source,
        identity: Identity<'a>,
        name: &'a ImageReference,
    ) -> Result<Self, ResolveError> {
        let registry = identity.listed(name).await;
        let registry = registry.ok_or_else(|| ResolveError::NotListed(name.registry()))?;
        Ok(Self {
            source,
            identity,
            registry,
            name,
        })
    }

    /// Where the blob is.
    pub(super) fn blob_url(&self, digest: &Digest) -> Result<Url, ResolveError> {
        let repository = self.name.repository.clone();
        self.url(ApiPath::blob(
            PathPrefix::default(),
            repository,
            digest.clone(),
        ))
    }

    fn url(&self, path: ApiPath) -> Result<Url, ResolveError> {
        let registry = self.registry.clone();
        ApiUrl { registry, path }.to_url().ok_or(ResolveError::Url)
    }

    /// The blobs for `platforms`, or for all if these are none.
    ///
    /// # Errors
    /// The registry does not give what leads there.
    pub(super) async fn blobs(&self, platforms: &[Platform]) -> Result<Vec<Blob>, ResolveError> {
        let mut blobs = Vec::new();
        let mut fetched = 0;
        let mut to_fetch = vec![(self.name.reference.clone(), 0)];
        while let Some((reference, depth)) = to_fetch.pop() {
            fetched += 1;
            if fetched > MAX_MANIFESTS || depth > DEEPEST {
                return Err(ResolveError::TooMuch(MAX_MANIFESTS, "manifests"));
            }
            let document = self.manifest(reference.clone()).await?;
            if let Reference::Digest(digest) = reference {
                check(&document, digest)?;
            }
            match Manifest::parse(&document)? {
                Manifest::Image(found) => blobs.extend(found),
                Manifest::Index(children) => {
                    let wanted = children.iter().filter(|child| child.is_for(platforms));
                    let before = to_fetch.len();
                    to_fetch.extend(
                        wanted.map(|child| (Reference::Digest(child.digest.clone()), depth + 1)),
                    );
                    if to_fetch.len() == before && !children.is_empty() {
                        let found = children.iter().filter_map(|child| child.platform.as_ref());
                        return Err(ResolveError::Platform {
                            wanted: listed(platforms.iter()),
                            found: listed(found),
                        });
                    }
                }
            }
            if blobs.len() > MAX_BLOBS {
                return Err(ResolveError::TooMuch(MAX_BLOBS, "layers"));
            }
        }
        Ok(blobs)
    }

    async fn manifest(&self, reference: Reference) -> Result<Bytes, ResolveError> {
        let repository = self.name.repository.clone();
        let url = self.url(ApiPath::manifest(
            PathPrefix::default(),
            repository,
            reference,
        ))?;
        let mut answer = self.ask(&url).await?;
        if self.identity.may_change(answer.0.as_u16(), &url).await {
            answer = self.ask(&url).await?;
        }
        match answer {
            (StatusCode::OK, document) => Ok(document),
            (status, body) => Err(ResolveError::Refused {
                status: status.as_u16(),
                said: said(&body),
            }),
        }
    }

    async fn ask(&self, url: &Url) -> Result<(StatusCode, Bytes), ResolveError> {
        let mut headers = self.identity.headers(url).await?;
        headers.extend(ACCEPTED.map(|accepted| ("Accept".to_owned(), accepted.to_owned())));
        Ok(self.source.fetch(url, &headers, MAX_MANIFEST_BYTES).await?)
    }
}

fn check(document: &[u8], expected: Digest) -> Result<(), ResolveError> {
    let mut hasher = DigestHasher::new(expected.algorithm());
    hasher.update(document);
    if hasher.finish() == expected {
        Ok(())
    } else {
        Err(ResolveError::Digest(Box::new(expected)))
    }
}

fn listed<'a>(platforms: impl Iterator<Item = &'a Platform>) -> String {
    let names: Vec<String> = platforms.map(ToString::to_string).collect();
    names.join(", ")
}

/// The registry's own words (OCI distribution-spec, "Error codes").
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<OciError>,
    }
    #[derive(Deserialize)]
    struct OciError {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let errors = serde_json::from_slice::<Errors>(body).map(|body| body.errors);
    let Some(first) = errors.ok().and_then(|errors| errors.into_iter().next()) else {
        return String::new();
    };
    let words = format!(" {}: {}", first.code, first.message);
    words.chars().take(MAX_REASON_LENGTH).collect()
}
