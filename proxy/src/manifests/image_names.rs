//! Which images layers belong to, as people name them: `registry/repository:tag`.
//!
//! For the statistics page; nothing depends on it. Beside it the lengths of blobs, for registries that do
//! not say them with the blob. What a tag leads to is learnt from the manifests that
//! pass by, see [`tee`](crate::manifests::tee).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use flotilla_torrents::Digest;
use moka::sync::Cache;
use parking_lot::{Mutex, MutexGuard};

/// Images that are remembered, the latest.
const MAX_IMAGES: usize = 256;
/// Manifests and layers of one image, for all its platforms.
const MAX_CONTENTS: usize = 512;
/// Lengths that are remembered.
const MAX_LENGTHS: u64 = 50_000;
/// Names of one layer.
const MAX_NAMES: usize = 8;

/// What is known so far. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageNames {
    images: Arc<Mutex<VecDeque<Image>>>,
    lengths: Lengths,
}

/// How many bytes blobs have, the latest that manifests have named.
#[derive(Clone, Debug)]
struct Lengths(Cache<Digest, u64>);

impl Default for Lengths {
    fn default() -> Self {
        Self(Cache::new(MAX_LENGTHS))
    }
}

#[derive(Debug)]
struct Image {
    /// With its registry.
    repository: String,
    tag: String,
    contents: HashSet<Digest>,
}

impl Image {
    fn add(&mut self, contents: &[Digest]) {
        let room = MAX_CONTENTS.saturating_sub(self.contents.len());
        self.contents.extend(contents.iter().take(room).cloned());
    }
}

impl ImageNames {
    /// A manifest says how many bytes these blobs have.
    pub(crate) fn note_lengths(&self, lengths: impl IntoIterator<Item = (Digest, u64)>) {
        for (digest, length) in lengths {
            self.lengths.0.insert(digest, length);
        }
    }

    /// How many bytes a blob has, as the last manifest said that named it.
    pub(crate) fn length_of(&self, digest: &Digest) -> Option<u64> {
        self.lengths.0.get(digest)
    }

    /// The tag has been asked for, and leads to `manifest` as far as the registry said so. What it
    /// led to before is forgotten when that is another manifest.
    pub(crate) fn note_tag(&self, repository: &str, tag: &str, manifest: Option<&Digest>) {
        let mut images = self.lock();
        let known = |image: &Image| image.repository == repository && image.tag == tag;
        let before = images.iter().position(known);
        let before = before.and_then(|place| images.remove(place));
        let kept = before
            .filter(|image| manifest.is_some_and(|manifest| image.contents.contains(manifest)));
        let image = kept.unwrap_or_else(|| Image {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            contents: manifest.cloned().into_iter().collect(),
        });
        if images.len() >= MAX_IMAGES {
            images.pop_front();
        }
        images.push_back(image);
    }

    /// The tag's manifest names these.
    pub(crate) fn note_contents_of_tag(&self, repository: &str, tag: &str, contents: &[Digest]) {
        let mut images = self.lock();
        let image = images
            .iter_mut()
            .find(|image| image.repository == repository && image.tag == tag);
        if let Some(image) = image {
            image.add(contents);
        }
    }

    /// The manifest with this digest names these.
    pub(crate) fn note_contents(&self, repository: &str, manifest: &Digest, contents: &[Digest]) {
        let mut images = self.lock();
        for image in images.iter_mut() {
            if image.repository == repository && image.contents.contains(manifest) {
                image.add(contents);
            }
        }
    }

    /// The images of a repository that hold this manifest or layer, those asked for last first.
    pub(crate) fn of(&self, repository: &str, content: &Digest) -> Vec<String> {
        let images = self.lock();
        let holding = images
            .iter()
            .rev()
            .filter(|image| image.repository == repository && image.contents.contains(content));
        let names = holding.map(|image| format!("{repository}:{}", image.tag));
        names.take(MAX_NAMES).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Image>> {
        self.images.lock()
    }
}

#[cfg(test)]
mod tests {
    use flotilla_torrents::DigestHasher;

    use super::*;

    const REPOSITORY: &str = "reg.test/team/app";

    fn digest(number: usize) -> Digest {
        DigestHasher::sha256_of(&number.to_be_bytes())
    }

    #[test]
    fn a_tag_s_chain_of_manifests_leads_to_its_layers() {
        let names = ImageNames::default();
        let [index, manifest, layer] = [1, 2, 3].map(digest);
        names.note_tag(REPOSITORY, "1.0", Some(&index));
        names.note_contents(REPOSITORY, &index, std::slice::from_ref(&manifest));
        names.note_contents(REPOSITORY, &manifest, std::slice::from_ref(&layer));
        assert_eq!(names.of(REPOSITORY, &layer), ["reg.test/team/app:1.0"]);
        assert!(names.of("reg.test/team/other", &layer).is_empty());
        assert!(names.of(REPOSITORY, &digest(4)).is_empty());
        // Asked for again it is the same; another manifest has other layers.
        names.note_tag(REPOSITORY, "1.0", Some(&index));
        assert_eq!(names.of(REPOSITORY, &layer).len(), 1);
        names.note_tag(REPOSITORY, "1.0", Some(&digest(5)));
        assert!(names.of(REPOSITORY, &layer).is_empty());
    }

    #[test]
    fn the_images_that_were_asked_for_last_are_remembered() {
        let names = ImageNames::default();
        for number in 0..MAX_IMAGES + 10 {
            names.note_tag(REPOSITORY, &number.to_string(), Some(&digest(number)));
        }
        assert!(names.of(REPOSITORY, &digest(9)).is_empty());
        assert_eq!(
            names.of(REPOSITORY, &digest(10)),
            [format!("{REPOSITORY}:10")]
        );
        for number in 0..MAX_NAMES + 1 {
            let tag = number.to_string();
            names.note_tag(REPOSITORY, &tag, None);
            names.note_contents_of_tag(REPOSITORY, &tag, &[digest(0)]);
        }
        let of_many = names.of(REPOSITORY, &digest(0));
        assert_eq!(of_many.len(), MAX_NAMES);
        assert_eq!(of_many[0], format!("{REPOSITORY}:{MAX_NAMES}"));
        let many: Vec<Digest> = (0..MAX_CONTENTS + 10).map(digest).collect();
        names.note_tag(REPOSITORY, "many", None);
        names.note_contents_of_tag(REPOSITORY, "many", &many);
        assert_eq!(names.lock().back().unwrap().contents.len(), MAX_CONTENTS);
    }
}
