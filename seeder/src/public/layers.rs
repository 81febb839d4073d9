//! Which layers came from a repository that the operator has made public.
//!
//! A layer is content: once a registry has given it from an open repository it is public, whatever
//! other repositories have it too. What was not seen to come from there stays closed.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use flotilla_torrents::{ContentId, Digest};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::public::repositories::{OpenRepository, PublicRepository};

/// Most layers that are remembered: as many as a supernode holds.
const MAX_LAYERS: usize = 100_000;
/// Repositories that are remembered for a layer; one would do, while it is listed.
const MAX_REPOSITORIES: usize = 8;

/// One line of the record.
#[derive(Serialize, Deserialize)]
struct Line {
    content: ContentId,
    repository: PublicRepository,
}

/// The public layers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct PublicLayers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    listed: Vec<OpenRepository>,
    layers: Mutex<HashMap<ContentId, BTreeSet<PublicRepository>>>,
    record: Mutex<File>,
}

impl PublicLayers {
    /// What the record at `path` says, less the layers that are not `here` any more.
    ///
    /// # Errors
    /// The record cannot be read or written.
    pub(crate) fn open(
        path: &Path,
        listed: &[OpenRepository],
        is_here: impl Fn(&ContentId) -> bool,
    ) -> anyhow::Result<Self> {
        let subject = || format!("record of open layers {}", path.display());
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(subject),
        };
        // A crash may have cut the last line.
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let mut layers: HashMap<ContentId, BTreeSet<PublicRepository>> = HashMap::new();
        for line in lines {
            let Line {
                content,
                repository,
            } = line;
            if is_here(&content) {
                layers.entry(content).or_default().insert(repository);
            }
        }
        let record = written_anew(path, &layers).with_context(subject)?;
        Ok(Self(Arc::new(Inner {
            listed: listed.to_vec(),
            layers: Mutex::new(layers),
            record: Mutex::new(record),
        })))
    }

    /// Notes that the registry gave `digest` at `url`. Whether that is news, and makes it open.
    pub(crate) async fn note(&self, url: &Url, digest: &Digest) -> bool {
        let Some(repository) = PublicRepository::of_blob(url).filter(|named| self.lists(named))
        else {
            return false;
        };
        let content = ContentId::blob(digest);
        if !self.remember(&content, &repository) {
            return false;
        }
        let inner = Arc::clone(&self.0);
        let written = tokio::task::spawn_blocking(move || {
            let line = Line {
                content,
                repository,
            };
            let mut record = inner.record.lock();
            record.write_all(&bytes_of(&line))
        });
        if let Err(error) = written.await.unwrap_or_else(|e| Err(io::Error::other(e))) {
            tracing::warn!(%error, "record of public layers not written");
        }
        true
    }

    /// Whether it is news.
    fn remember(&self, content: &ContentId, repository: &PublicRepository) -> bool {
        let mut layers = self.lock();
        if layers.len() >= MAX_LAYERS && !layers.contains_key(content) {
            tracing::warn!(%content, "layer not made public: the limit of public layers is reached");
            return false;
        }
        let known = layers.entry(content.clone()).or_default();
        known.len() < MAX_REPOSITORIES && known.insert(repository.clone())
    }

    /// Whether the layer is public.
    pub(crate) fn is_open(&self, content: &ContentId) -> bool {
        let layers = self.lock();
        let repositories = layers.get(content);
        repositories.is_some_and(|known| known.iter().any(|repository| self.lists(repository)))
    }

    /// Those that are public.
    pub(crate) fn all(&self) -> Vec<ContentId> {
        let known: Vec<ContentId> = self.lock().keys().cloned().collect();
        known
            .into_iter()
            .filter(|content| self.is_open(content))
            .collect()
    }

    fn lists(&self, repository: &PublicRepository) -> bool {
        self.0.listed.iter().any(|listed| listed.has(repository))
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, HashMap<ContentId, BTreeSet<PublicRepository>>> {
        self.0.layers.lock()
    }
}

fn written_anew(
    path: &Path,
    layers: &HashMap<ContentId, BTreeSet<PublicRepository>>,
) -> io::Result<File> {
    let mut text = Vec::new();
    for (content, repositories) in layers {
        for repository in repositories {
            text.extend(bytes_of(&Line {
                content: content.clone(),
                repository: repository.clone(),
            }));
        }
    }
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)?;
    OpenOptions::new().append(true).open(path)
}

fn bytes_of(line: &Line) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use flotilla_torrents::DigestHasher;

    use super::*;

    fn url(repository: &str, digest: &Digest) -> Url {
        let url = format!("https://registry.example/v2/{repository}/blobs/{digest}");
        url.parse().unwrap()
    }

    #[tokio::test]
    async fn a_layer_is_open_when_it_came_from_a_listed_repository() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("open-layers");
        let listed = ["registry.example/public/*".parse().unwrap()];
        let digest = DigestHasher::sha256_of(b"layer");
        let content = ContentId::blob(&digest);
        let layers = PublicLayers::open(&path, &listed, |_| true).unwrap();
        assert!(!layers.note(&url("private/app", &digest), &digest).await);
        assert!(!layers.is_open(&content));
        assert!(layers.note(&url("public/app", &digest), &digest).await);
        assert!(!layers.note(&url("public/app", &digest), &digest).await);
        // Also for those who know it from elsewhere.
        layers.note(&url("private/app", &digest), &digest).await;
        assert!(layers.is_open(&content));
        let other = DigestHasher::sha256_of(b"other");
        assert!(!layers.is_open(&ContentId::blob(&other)));
    }

    #[tokio::test]
    async fn the_next_run_knows_it_while_the_layer_is_here_and_the_repository_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("open-layers");
        let listed = ["registry.example/public/*".parse().unwrap()];
        let digest = DigestHasher::sha256_of(b"layer");
        let content = ContentId::blob(&digest);
        let layers = PublicLayers::open(&path, &listed, |_| true).unwrap();
        layers.note(&url("public/app", &digest), &digest).await;
        drop(layers);
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"content\":")
            .unwrap();
        let next = PublicLayers::open(&path, &listed, |_| true).unwrap();
        assert_eq!(next.all(), std::slice::from_ref(&content));
        let withdrawn = PublicLayers::open(&path, &[], |_| true).unwrap();
        assert!(!withdrawn.is_open(&content) && withdrawn.all().is_empty());
        let evicted = PublicLayers::open(&path, &listed, |_| false).unwrap();
        assert!(!evicted.is_open(&content));
    }
}
