//! Small content in the store: kept whole and read whole, in [packs](super::packs).

use std::sync::Arc;

use flotilla_torrents::{ContentId, Digest, PieceRanges};

use super::layer_record::LayerRecord;
use super::pack_file::Frame;
use super::packs::PackedContent;
use super::{LayerAudit, Store, StoreError, StoredLayer};
use crate::store::small_content::SmallContent;

/// What there is to tell of small content without reading it.
#[derive(Clone, Debug)]
pub(crate) struct SmallEntry {
    pub(crate) content: ContentId,
    pub(crate) origin: String,
    pub(crate) length: u64,
    pub(crate) sha256: Digest,
    /// Unix milliseconds; that of its pack.
    pub(crate) last_used: u64,
}

impl Store {
    /// Keeps small content, unless it is here. Blocks on the disk.
    ///
    /// # Errors
    /// The disk refused, the quota is taken by layers in use and pinned ones, or what is here
    /// came from another source than `origin`.
    pub fn keep(&self, small: &SmallContent, origin: &str) -> Result<(), StoreError> {
        let content = small.content();
        if self.is_kept(content, origin)? {
            return Ok(());
        }
        let mut record = LayerRecord::new(content.clone(), &small.geometry(), origin);
        record.sealed = Some(small.sha256().clone());
        let refused = |source| StoreError::io(&self.packs, source);
        let frame = Frame::new(&record, small.bytes()).map_err(refused)?;
        let reserved = self.change(|inventory| {
            inventory.make_room(self.quota, frame.size())?;
            inventory.packs.reserve(&frame).map_err(refused)
        })?;
        let (file, place) = (Arc::clone(&reserved.file), reserved.place);
        let written = file.write(&frame, place);
        let mut inventory = self.lock();
        if let Err(source) = written {
            inventory.packs.give_back(&reserved);
            return Err(StoreError::io(file.path(), source));
        }
        let is_taken = inventory.packs.insert(record, reserved);
        drop(inventory);
        if !is_taken {
            // Another thread was faster. A restart must not find it twice.
            let _ = file.mark_dead(place);
        }
        Ok(())
    }

    /// Whether it is here as small content.
    pub fn has_small(&self, content: &ContentId) -> bool {
        self.lock().packs.get(content).is_some()
    }

    /// Small content for a caller of `origin`, compared with what it was when it came; `None`: it
    /// is not here, or not any more what it was. Blocks on the disk.
    ///
    /// # Errors
    /// It came from another source.
    pub fn small(
        &self,
        content: &ContentId,
        origin: &str,
    ) -> Result<Option<SmallContent>, StoreError> {
        let Some(packed) = self.packed(content) else {
            return Ok(None);
        };
        self.check_origin(&packed.origin, origin)?;
        packed.note_use();
        Ok(self.read(content, &packed))
    }

    /// Makes a layer of small content: a file of its own, that can be pinned, linked and seeded.
    /// `None`: it is not here. Blocks on the disk.
    ///
    /// # Errors
    /// The disk refused, or the quota is taken by layers in use and pinned ones.
    pub fn unpack(&self, content: &ContentId) -> Result<Option<Arc<StoredLayer>>, StoreError> {
        let Some(packed) = self.packed(content) else {
            return Ok(None);
        };
        let Some(small) = self.read(content, &packed) else {
            return Ok(None);
        };
        let layer = self.layer_or_create(content, packed.geometry, &packed.origin)?;
        self.complete(&layer, small.bytes(), small.sha256().clone())?;
        self.remove_small(content);
        Ok(Some(layer))
    }

    /// All small content.
    pub(crate) fn small_entries(&self) -> Vec<SmallEntry> {
        let inventory = self.lock();
        let packed = inventory.packs.iter();
        packed
            .map(|(content, packed)| SmallEntry {
                content: content.clone(),
                origin: packed.origin.clone(),
                length: packed.geometry.length(),
                sha256: packed.sha256.clone(),
                last_used: packed.last_used(),
            })
            .collect()
    }

    /// Reads small content and compares it; what is damaged is removed. `None`: it is not here.
    /// Blocks on the disk.
    pub(crate) fn audit_small(&self, content: &ContentId) -> Option<LayerAudit> {
        let packed = self.packed(content)?;
        let mut audit = LayerAudit {
            content: content.clone(),
            checked: packed.geometry.length(),
            damaged: PieceRanges::default(),
            fault: None,
        };
        if self.read(content, &packed).is_none() {
            let all = packed.geometry.pieces();
            all.for_each(|piece| audit.damaged.push(piece));
            audit.fault = Some("the bytes are not what they were".to_owned());
        }
        Some(audit)
    }

    /// Whether small content was here.
    pub(super) fn remove_small(&self, content: &ContentId) -> bool {
        let removed = self.lock().packs.remove(content);
        if let Some(packed) = &removed
            && let Err(error) = packed.file.mark_dead(packed.place)
        {
            tracing::warn!(%content, %error, "removal of small content not recorded, a restart brings it back");
        }
        removed.is_some()
    }

    fn is_kept(&self, content: &ContentId, origin: &str) -> Result<bool, StoreError> {
        let inventory = self.lock();
        let layer = inventory.layers.get(content).map(|layer| layer.origin());
        let packed = inventory
            .packs
            .get(content)
            .map(|packed| packed.origin.as_str());
        let Some(known) = layer.or(packed) else {
            return Ok(false);
        };
        self.check_origin(known, origin).map(|()| true)
    }

    fn packed(&self, content: &ContentId) -> Option<PackedContent> {
        self.lock().packs.get(content).cloned()
    }

    /// The bytes, when they are what was packed; else it is no longer here.
    fn read(&self, content: &ContentId, packed: &PackedContent) -> Option<SmallContent> {
        let bytes = packed.file.read(packed.place);
        let small = bytes
            .ok()
            .and_then(|bytes| SmallContent::verify(content.clone(), packed.geometry, bytes))
            .filter(|small| *small.sha256() == packed.sha256);
        // Nor is it damaged when it has just been removed.
        if small.is_none() && self.remove_small(content) {
            tracing::error!(%content, pack = %packed.file.path().display(), "damaged small content removed");
        }
        small
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use bytes::Bytes;
    use flotilla_torrents::{DigestHasher, Geometry};

    use super::*;
    use crate::store::RemoveError;

    const ORIGIN: &str = "http://registry";

    fn small(fill: u8, length: usize) -> SmallContent {
        let bytes = vec![fill; length];
        let content = ContentId::blob(&DigestHasher::sha256_of(&bytes));
        let geometry = Geometry::for_length(length as u64).unwrap();
        SmallContent::verify(content, geometry, Bytes::from(bytes)).unwrap()
    }

    fn open(dir: &Path) -> Store {
        Store::open(dir, 1 << 20).unwrap()
    }

    fn kept(store: &Store, small: &SmallContent) -> bool {
        let found = store.small(small.content(), ORIGIN).unwrap();
        found.is_some_and(|found| found.bytes() == small.bytes())
    }

    /// The one pack, and where the bytes of `small` are in it.
    fn on_disk(dir: &Path, small: &SmallContent) -> (File, u64) {
        let packs: Vec<_> = fs::read_dir(dir.join("packs")).unwrap().collect();
        assert_eq!(packs.len(), 1);
        let path = packs[0].as_ref().unwrap().path();
        let whole = fs::read(&path).unwrap();
        let bytes = small.bytes();
        let at = whole.windows(bytes.len()).position(|part| part == bytes);
        let file = File::options().write(true).open(path).unwrap();
        (file, at.unwrap() as u64)
    }

    #[test]
    fn what_root_unpacks_is_the_cache_owners() {
        // Others than root can only work on what is theirs.
        let user = rustix::process::geteuid();
        let owner = if user.is_root() { 65534 } else { user.as_raw() };
        let dir = tempfile::tempdir().unwrap();
        let (store, small) = (open(dir.path()), small(1, 1000));
        store.keep(&small, ORIGIN).unwrap();
        std::os::unix::fs::chown(dir.path().join("layers"), Some(owner), None).unwrap();
        let layer = store.unpack(small.content()).unwrap().unwrap();
        store.set_pinned(small.content(), true).unwrap().unwrap();
        let names = fs::read_dir(layer.dir()).unwrap();
        let names = names.map(|entry| entry.unwrap().path());
        for path in names.chain([layer.dir().to_owned()]) {
            let of = fs::metadata(&path).unwrap().uid();
            assert_eq!(of, owner, "{}", path.display());
        }
    }

    #[test]
    fn it_is_found_again_after_a_restart_and_takes_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let all = [small(1, 5000), small(2, 1), small(3, 100_000)];
        for small in &all {
            store.keep(small, ORIGIN).unwrap();
            // Once is enough.
            store.keep(small, ORIGIN).unwrap();
        }
        let bytes = store.bytes();
        assert!((105_001..110_000).contains(&bytes), "{bytes}");
        drop(store);
        let store = open(dir.path());
        assert_eq!(store.bytes(), bytes);
        assert!(all.iter().all(|small| kept(&store, small)));
        assert_eq!(fs::read_dir(dir.path().join("layers")).unwrap().count(), 0);
        store.keep(&small(5, 10), ORIGIN).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("packs")).unwrap().count(), 1);
    }

    #[test]
    fn what_another_source_sent_is_not_given() {
        let dir = tempfile::tempdir().unwrap();
        let (store, small) = (open(dir.path()), small(1, 10));
        store.keep(&small, ORIGIN).unwrap();
        let other = store.small(small.content(), "http://other");
        assert!(matches!(other, Err(StoreError::OtherOrigin { .. })));
        let other = store.keep(&small, "http://other");
        assert!(matches!(other, Err(StoreError::OtherOrigin { .. })));
    }

    #[test]
    fn damaged_bytes_are_not_served_and_named_by_an_audit() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let (first, second) = (small(1, 5000), small(2, 5000));
        store.keep(&first, ORIGIN).unwrap();
        store.keep(&second, ORIGIN).unwrap();
        assert!(store.audit_small(second.content()).unwrap().is_intact());
        for small in [&first, &second] {
            let (file, at) = on_disk(dir.path(), small);
            file.write_all_at(&[9], at + 7).unwrap();
        }
        assert!(!kept(&store, &first));
        assert!(!store.has_small(first.content()));
        let audit = store.audit_small(second.content()).unwrap();
        assert_eq!(audit.damaged.count(), 1);
        assert!(!store.has_small(second.content()));
        drop(store);
        assert_eq!(open(dir.path()).bytes(), 0);
    }

    #[test]
    fn a_frame_that_a_crash_cut_off_costs_nothing_but_itself() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let (first, second, third) = (small(1, 5000), small(2, 5000), small(3, 5000));
        store.keep(&first, ORIGIN).unwrap();
        store.keep(&second, ORIGIN).unwrap();
        drop(store);
        let (file, at) = on_disk(dir.path(), &second);
        for length in [at + 4999, at, at - 40] {
            file.set_len(length).unwrap();
            let store = open(dir.path());
            assert!(kept(&store, &first), "{length}");
            assert!(!store.has_small(second.content()), "{length}");
        }
        let store = open(dir.path());
        store.keep(&third, ORIGIN).unwrap();
        drop(store);
        let store = open(dir.path());
        assert!(kept(&store, &first) && kept(&store, &third));
    }

    #[test]
    fn what_follows_a_failed_write_or_a_second_copy_is_found_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let (first, second) = (small(1, 5000), small(2, 5000));
        let frame_of = |small: &SmallContent| {
            let geometry = small.geometry();
            let mut record = LayerRecord::new(small.content().clone(), &geometry, ORIGIN);
            record.sealed = Some(small.sha256().clone());
            (Frame::new(&record, small.bytes()).unwrap(), record)
        };
        {
            // The disk was full.
            let (frame, _) = frame_of(&first);
            let mut inventory = store.lock();
            let reserved = inventory.packs.reserve(&frame).unwrap();
            inventory.packs.give_back(&reserved);
        }
        store.keep(&second, ORIGIN).unwrap();
        {
            // Two were as fast as each other.
            let (frame, record) = frame_of(&second);
            let mut inventory = store.lock();
            let reserved = inventory.packs.reserve(&frame).unwrap();
            reserved.file.write(&frame, reserved.place).unwrap();
            assert!(!inventory.packs.insert(record, reserved));
        }
        store.keep(&first, ORIGIN).unwrap();
        let bytes = store.bytes();
        drop(store);
        let store = open(dir.path());
        assert!(kept(&store, &first) && kept(&store, &second));
        assert_eq!(store.bytes(), bytes);
        store.remove(second.content()).unwrap();
        drop(store);
        assert!(!open(dir.path()).has_small(second.content()));
    }

    #[test]
    fn a_pack_that_cannot_be_read_does_not_keep_the_store_from_opening() {
        let dir = tempfile::tempdir().unwrap();
        let packs = dir.path().join("packs");
        fs::create_dir_all(packs.join("0.pack")).unwrap();
        let store = open(dir.path());
        let small = small(1, 5000);
        store.keep(&small, ORIGIN).unwrap();
        assert!(kept(&store, &small) && packs.join("1.pack").exists());
    }

    #[test]
    fn what_was_removed_stays_away_and_gives_its_room_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let (first, second) = (small(1, 100_000), small(2, 5000));
        store.keep(&first, ORIGIN).unwrap();
        store.keep(&second, ORIGIN).unwrap();
        assert!(store.remove(first.content()).unwrap().is_none());
        assert!(matches!(
            store.remove(first.content()),
            Err(RemoveError::Absent)
        ));
        assert!(store.bytes() < 6000);
        drop(store);
        let store = open(dir.path());
        assert!(!store.has_small(first.content()));
        assert!(kept(&store, &second));
    }

    #[test]
    fn without_room_the_pack_or_layer_that_was_not_used_for_the_longest_time_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let later = |than: u64| while crate::store::layer_record::now_millis() <= than {};
        let packed = small(1, 100_000);
        store.keep(&packed, ORIGIN).unwrap();
        let used = |store: &Store| store.small_entries()[0].last_used;
        later(used(&store));
        let layer_of = |fill: u8, length: u64| {
            let content = ContentId::blob(&DigestHasher::sha256_of(&[fill]));
            let geometry = Geometry::for_length(length).unwrap();
            store.layer_or_create(&content, geometry, ORIGIN).unwrap()
        };
        let layer = layer_of(2, 500_000);
        later(layer.last_used());
        assert!(
            kept(&store, &packed),
            "a use: the layer is the older one now"
        );
        later(used(&store));
        layer_of(3, 900_000);
        assert_eq!(store.take_evicted().len(), 1);
        assert!(store.has_small(packed.content()));
        layer_of(4, 100_000);
        assert!(store.take_evicted().is_empty(), "the pack is the older one");
        assert!(!store.has_small(packed.content()));
        assert_eq!(fs::read_dir(dir.path().join("packs")).unwrap().count(), 0);
        store.keep(&packed, ORIGIN).unwrap();
        assert!(store.bytes() <= 1 << 20);
    }

    #[test]
    fn unpacked_it_is_a_layer_like_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let small = small(1, 5000);
        store.keep(&small, ORIGIN).unwrap();
        let layer = store.unpack(small.content()).unwrap().unwrap();
        assert_eq!(layer.read(0, 5000).unwrap(), small.bytes());
        assert_eq!(layer.sealed().as_ref(), Some(small.sha256()));
        assert_eq!(store.bytes(), 5000, "it is here once");
        store.set_pinned(small.content(), true).unwrap().unwrap();
        drop((layer, store));
        let store = open(dir.path());
        assert!(store.layer(small.content()).unwrap().is_pinned());
        assert!(store.unpack(small.content()).unwrap().is_none());
    }
}
