//! Reads manifests as they pass, for [`ImageNames`]. It neither delays nor changes an answer.

use std::sync::Arc;

use bytes::BytesMut;
use flotilla_registry::names::api_path::{ApiPath, Endpoint, PathPrefix};
use flotilla_registry::names::docker_hub;
use flotilla_registry::{Reference, Repository};
use flotilla_torrents::Digest;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::authority::plain_host;
use crate::body::{Passing, ProxyBody, inspected};
use crate::manifests::image_names::ImageNames;
use crate::marks::{Mark, set_mark};
use crate::stats::ProxyStats;

/// Registries take manifests of up to this (OCI distribution-spec, "Pushing manifests").
const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;
/// Manifests that are read at the same time; further ones pass unread.
const AT_ONCE: usize = 16;
/// Bytes that are parsed at once, in some 100 µs: an engine asks for the layers as soon as it has
/// them. Larger ones are parsed elsewhere.
const PARSED_AT_ONCE: usize = 64 * 1024;
const DOCKER_CONTENT_DIGEST: &str = "docker-content-digest";

/// Reads manifests as they pass. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ManifestTee {
    names: ImageNames,
    stats: Arc<ProxyStats>,
    free: Arc<Semaphore>,
}

/// `GET` or `HEAD /v2/<name>/manifests/<reference>`: OCI distribution-spec, "Pulling manifests".
#[derive(Debug)]
pub(crate) struct ManifestRequest {
    repository: String,
    reference: Reference,
    has_body: bool,
}

impl ManifestRequest {
    pub(crate) fn recognise(method: &Method, target: &Uri) -> Option<Self> {
        if !matches!(*method, Method::GET | Method::HEAD) || target.query().is_some() {
            return None;
        }
        let ApiPath { prefix, endpoint } = target.path().parse().ok()?;
        let Endpoint::Manifest(repository, reference) = endpoint else {
            return None;
        };
        Some(Self {
            repository: repository_at(target, &prefix, &repository),
            reference,
            has_body: *method == Method::GET,
        })
    }
}

/// A repository with its registry, as people name them.
pub(crate) fn repository_at(target: &Uri, prefix: &PathPrefix, repository: &Repository) -> String {
    let host = plain_host(target);
    let host = docker_hub::name_of(&host);
    format!("{host}{prefix}/{repository}")
}

impl ManifestTee {
    pub(crate) fn new(names: ImageNames, stats: Arc<ProxyStats>) -> Self {
        Self {
            names,
            stats,
            free: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// The answer to `asked`, which is read as it passes.
    pub(crate) fn listen(
        &self,
        asked: ManifestRequest,
        response: Response<ProxyBody>,
    ) -> Response<ProxyBody> {
        let headers = response.headers();
        if response.status() != StatusCode::OK {
            return response;
        }
        match &asked.reference {
            Reference::Tag(tag) => {
                let manifest = text(headers, DOCKER_CONTENT_DIGEST).and_then(|d| d.parse().ok());
                self.names
                    .note_tag(&asked.repository, tag.as_str(), manifest.as_ref());
            }
            Reference::Digest(_) => {}
        }
        if !asked.has_body {
            return response;
        }
        let repository = asked.repository.as_str();
        if !is_readable(headers) {
            set_mark!(
                self.stats,
                Mark::ManifestUnreadable,
                repository,
                reason = "encoded or too large"
            );
            return response;
        }
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            set_mark!(self.stats, Mark::ManifestsBusy, repository);
            return response;
        };
        let expected = length(headers);
        let copy = Copied {
            bytes: BytesMut::new(),
            expected,
            asked,
            names: self.names.clone(),
            stats: Arc::clone(&self.stats),
            _permit: permit,
        };
        let mut copy = Some(copy);
        response.map(|body| {
            inspected(body, move |passing| {
                copy = copy.take().and_then(|copy| copy.after(passing));
            })
        })
    }
}

fn is_readable(headers: &HeaderMap) -> bool {
    let is_plain =
        text(headers, CONTENT_ENCODING.as_str()).is_none_or(|coding| coding == "identity");
    is_plain && length(headers).is_none_or(|length| length <= MAX_MANIFEST_BYTES)
}

fn length(headers: &HeaderMap) -> Option<usize> {
    text(headers, CONTENT_LENGTH.as_str())?.parse().ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What of a manifest has passed.
struct Copied {
    bytes: BytesMut,
    /// Bytes of the whole, when the registry says so.
    expected: Option<usize>,
    asked: ManifestRequest,
    names: ImageNames,
    stats: Arc<ProxyStats>,
    /// One of [`AT_ONCE`].
    _permit: OwnedSemaphorePermit,
}

impl Copied {
    /// False: it is larger than any manifest.
    fn add(&mut self, bytes: &[u8]) -> bool {
        let fits = self.bytes.len() + bytes.len() <= MAX_MANIFEST_BYTES;
        if fits {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.is_unreadable("larger than any manifest");
        }
        fits
    }

    fn is_unreadable(&self, reason: &str) {
        let repository = self.asked.repository.as_str();
        set_mark!(self.stats, Mark::ManifestUnreadable, repository, reason);
    }

    /// The copy once this has passed too; none once it is read, or not worth reading.
    fn after(mut self, passing: Passing<'_>) -> Option<Self> {
        match passing {
            Passing::Frame { frame, is_last } => {
                if !frame.data_ref().is_none_or(|bytes| self.add(bytes)) {
                    return None;
                }
                // hyper does not ask for the end of what has its announced length.
                if !is_last && Some(self.bytes.len()) != self.expected {
                    return Some(self);
                }
                self.finish();
            }
            Passing::End => self.finish(),
            Passing::Failure => {}
        }
        None
    }

    fn finish(self) {
        if self.bytes.len() <= PARSED_AT_ONCE {
            self.note();
        } else {
            // Nothing waits for it.
            drop(tokio::task::spawn_blocking(move || self.note()));
        }
    }

    fn note(&self) {
        let Some(contents) = contents_of(&self.bytes) else {
            return self.is_unreadable("not the JSON of a manifest");
        };
        let lengths = contents.iter().filter_map(|(digest, length)| {
            let length = length.filter(|length| *length > 0)?;
            Some((digest.clone(), length))
        });
        self.names.note_lengths(lengths);
        let contents: Vec<Digest> = contents.into_iter().map(|(digest, _)| digest).collect();
        let repository = &self.asked.repository;
        match &self.asked.reference {
            Reference::Tag(tag) => {
                self.names
                    .note_contents_of_tag(repository, tag.as_str(), &contents);
            }
            Reference::Digest(digest) => self.names.note_contents(repository, digest, &contents),
        }
    }
}

/// The manifests that an index names, or the layers of a manifest, and their lengths. None for anything
/// else.
fn contents_of(document: &[u8]) -> Option<Vec<(Digest, Option<u64>)>> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(default)]
        manifests: Vec<Descriptor>,
        #[serde(default)]
        layers: Vec<Descriptor>,
        config: Option<Descriptor>,
    }
    #[derive(Deserialize)]
    struct Descriptor {
        digest: String,
        size: Option<u64>,
    }
    let document: Document = serde_json::from_slice(document).ok()?;
    let named = document.manifests.into_iter().chain(document.config);
    let named = named.chain(document.layers);
    let digests = named.filter_map(|named| Some((named.digest.parse().ok()?, named.size)));
    Some(digests.collect())
}

#[cfg(test)]
mod tests {
    use flotilla_torrents::DigestHasher;

    use super::*;

    #[test]
    fn manifests_are_recognised_by_tag_and_by_digest() {
        let digest = DigestHasher::sha256_of(b"a");
        let recognise = |url: &str| ManifestRequest::recognise(&Method::GET, &url.parse().unwrap());
        for (url, repository, reference) in [
            (
                "http://reg.test:5000/v2/team/app/manifests/1.0",
                "reg.test:5000/team/app",
                Reference::Tag("1.0".parse().unwrap()),
            ),
            (
                "https://registry-1.docker.io/v2/library/nginx/manifests/latest",
                "docker.io/library/nginx",
                Reference::Tag("latest".parse().unwrap()),
            ),
            (
                &format!("https://reg.test:443/v2/a/manifests/{digest}"),
                "reg.test/a",
                Reference::Digest(digest),
            ),
            (
                "https://reg.test/repository/docker/v2/a/manifests/1",
                "reg.test/repository/docker/a",
                Reference::Tag("1".parse().unwrap()),
            ),
        ] {
            let found = recognise(url).unwrap();
            assert_eq!(
                (found.repository.as_str(), &found.reference),
                (repository, &reference)
            );
        }
        for path in [
            "v2/a/manifests/",
            "v2/a/manifests/-x",
            "v2/a/manifests/x%2f",
            "v2/A/manifests/1",
            "v2//manifests/1",
            "v2/a/manifests/1?ns=x",
            "v2/a/blobs/1",
            "a/manifests/1",
        ] {
            assert!(
                recognise(&format!("http://reg.test/{path}")).is_none(),
                "{path}"
            );
        }
        let target = "http://reg.test/v2/a/manifests/1".parse().unwrap();
        assert!(ManifestRequest::recognise(&Method::PUT, &target).is_none());
    }

    #[test]
    fn what_is_no_manifest_holds_nothing() {
        let digest = DigestHasher::sha256_of(b"a");
        let layers = format!(r#"{{"layers":[{{"digest":"{digest}"}},{{"digest":"x"}}]}}"#);
        assert_eq!(
            contents_of(layers.as_bytes()),
            Some(vec![(digest.clone(), None)])
        );
        let sized = format!(r#"{{"layers":[{{"digest":"{digest}","size":7}}]}}"#);
        assert_eq!(contents_of(sized.as_bytes()), Some(vec![(digest, Some(7))]));
        for text in ["", "null", "[7]", r#"{"layers":7}"#, "<html>"] {
            assert_eq!(contents_of(text.as_bytes()), None, "{text}");
        }
        // JSON arrays are read as the fields in their order.
        for text in ["{}", "[]"] {
            assert!(
                contents_of(text.as_bytes()).is_none_or(|found| found.is_empty()),
                "{text}"
            );
        }
    }
}
