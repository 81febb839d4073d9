//! Small contents, many to a file.
//!
//! An image has many blobs of a few KiB. A directory for each would cost the disk more than its
//! bytes do, and an open file each as long as it is held. `<data-dir>/packs/<number>.pack` holds
//! them one after the other. Nothing is flushed: fetching one again is cheaper, and each is
//! compared with its SHA-256 whenever it is read. The oldest file goes as a whole when there is no
//! room.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flotilla_torrents::{ContentId, Digest, Geometry};

use super::StoreError;
use super::layer_record::{self, LayerRecord};
use super::pack_file::{Frame, PackFile, Place};

/// A file that is longer gets nothing more. What is evicted together.
const MAX_PACK_LENGTH: u64 = 16 * 1024 * 1024;

/// The packs, and where each content is.
#[derive(Debug)]
pub(super) struct Packs {
    dir: PathBuf,
    packs: BTreeMap<u64, Pack>,
    /// The number of the next one: no number names two files.
    next: u64,
    index: HashMap<ContentId, PackedContent>,
    /// Bytes of the frames that count.
    bytes: u64,
}

#[derive(Debug)]
struct Pack {
    file: Arc<PackFile>,
    /// Where the next frame begins.
    end: u64,
    /// Bytes of the frames that count.
    bytes: u64,
    last_used: Arc<AtomicU64>,
    /// The last use that the disk knows of.
    persisted_last_used: u64,
}

impl Pack {
    fn new(file: PackFile, end: u64, last_used: u64) -> Self {
        Self {
            file: Arc::new(file),
            end,
            bytes: 0,
            last_used: Arc::new(AtomicU64::new(last_used)),
            persisted_last_used: last_used,
        }
    }
}

/// A content in a pack.
#[derive(Clone, Debug)]
pub(super) struct PackedContent {
    pub(super) origin: String,
    pub(super) geometry: Geometry,
    /// SHA-256 of its bytes.
    pub(super) sha256: Digest,
    pub(super) file: Arc<PackFile>,
    pub(super) place: Place,
    pack: u64,
    /// Of its pack, Unix milliseconds.
    last_used: Arc<AtomicU64>,
}

impl PackedContent {
    /// When something of its pack was last used, Unix milliseconds.
    pub(super) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    pub(super) fn note_use(&self) {
        self.last_used
            .store(layer_record::now_millis(), Ordering::Relaxed);
    }
}

/// Room for one frame, at the end of a pack.
#[derive(Debug)]
pub(super) struct Reserved {
    pub(super) file: Arc<PackFile>,
    pub(super) place: Place,
    pack: u64,
}

impl Packs {
    /// Opens what earlier runs left. What is no pack, or holds nothing, is cleared away.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut found = Self {
            packs: BTreeMap::new(),
            next: 0,
            index: HashMap::new(),
            bytes: 0,
            dir,
        };
        for entry in fs::read_dir(&found.dir)? {
            let path = entry?.path();
            let Some(number) = number_of(&path) else {
                continue;
            };
            // Also that of one that is left alone: no number names two files.
            found.next = found.next.max(number.saturating_add(1));
            if let Err(error) = found.open_pack(number, path.clone()) {
                tracing::warn!(pack = %path.display(), %error, "unreadable pack left in place");
            }
        }
        found.clear_empty();
        Ok(found)
    }

    fn open_pack(&mut self, number: u64, path: PathBuf) -> io::Result<()> {
        let (file, contents) = PackFile::open(path)?;
        let last_used = layer_record::modified_millis(file.file())?;
        let last_used = last_used.min(layer_record::now_millis());
        let end = file.file().metadata()?.len();
        let pack = Pack::new(file, end, last_used);
        let file = Arc::clone(&pack.file);
        self.packs.insert(number, pack);
        for (record, place) in contents {
            let reserved = Reserved {
                file: Arc::clone(&file),
                place,
                pack: number,
            };
            if !self.insert(record, reserved) {
                let _ = file.mark_dead(place);
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, content: &ContentId) -> Option<&PackedContent> {
        self.index.get(content)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ContentId, &PackedContent)> {
        self.index.iter()
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Room for `frame`, which is to be written there and then [inserted](Self::insert).
    pub(super) fn reserve(&mut self, frame: &Frame) -> io::Result<Reserved> {
        let newest = self.packs.last_key_value();
        let filling = newest.filter(|(_, pack)| pack.end < MAX_PACK_LENGTH);
        let number = match filling {
            Some((number, _)) => *number,
            None => self.create()?,
        };
        let pack = self.packs.get_mut(&number);
        let pack = pack.ok_or_else(|| io::Error::other("the pack has just gone"))?;
        let place = frame.place_at(pack.end);
        pack.end = place.end;
        pack.last_used
            .store(layer_record::now_millis(), Ordering::Relaxed);
        Ok(Reserved {
            file: Arc::clone(&pack.file),
            place,
            pack: number,
        })
    }

    /// A new pack; its number.
    fn create(&mut self) -> io::Result<u64> {
        let number = self.next;
        let file = PackFile::create(self.dir.join(format!("{number}.pack")))?;
        self.next = number.saturating_add(1);
        let pack = Pack::new(file, 0, layer_record::now_millis());
        self.packs.insert(number, pack);
        Ok(number)
    }

    /// What was reserved could not be written. The next frame overwrites it; when others follow it
    /// already, which a restart would not find after it, the pack gets nothing more.
    pub(super) fn give_back(&mut self, at: &Reserved) {
        if let Some(pack) = self.packs.get_mut(&at.pack) {
            pack.end = if pack.end == at.place.end {
                at.place.start
            } else {
                pack.end.max(MAX_PACK_LENGTH)
            };
        }
    }

    /// The frame with this record is written. A content that is here already stays where it is,
    /// and nothing comes into a pack that has been evicted meanwhile: false.
    pub(super) fn insert(&mut self, record: LayerRecord, at: Reserved) -> bool {
        let geometry = Geometry::new(record.length, record.piece_length);
        let (Ok(geometry), Some(sha256)) = (geometry, record.sealed) else {
            return false;
        };
        let Some(pack) = self.packs.get_mut(&at.pack) else {
            return false;
        };
        if self.index.contains_key(&record.content) {
            return false;
        }
        pack.bytes = pack.bytes.saturating_add(at.place.size());
        self.bytes = self.bytes.saturating_add(at.place.size());
        let packed = PackedContent {
            origin: record.origin,
            geometry,
            sha256,
            file: at.file,
            place: at.place,
            pack: at.pack,
            last_used: Arc::clone(&pack.last_used),
        };
        self.index.insert(record.content, packed);
        true
    }

    /// Forgets `content`; `None`: it is not here. What the disk has of it is for the caller to
    /// [mark](PackFile::mark_dead).
    pub(super) fn remove(&mut self, content: &ContentId) -> Option<PackedContent> {
        let packed = self.index.remove(content)?;
        self.bytes = self.bytes.saturating_sub(packed.place.size());
        if let Some(pack) = self.packs.get_mut(&packed.pack) {
            pack.bytes = pack.bytes.saturating_sub(packed.place.size());
        }
        self.clear_empty();
        Some(packed)
    }

    /// The pack that was not used for the longest time, and when it was.
    pub(super) fn oldest(&self) -> Option<(u64, u64)> {
        let packs = self.packs.iter();
        packs
            .filter(|(_, pack)| pack.bytes > 0)
            .map(|(number, pack)| (pack.last_used.load(Ordering::Relaxed), *number))
            .min()
    }

    /// Removes a pack with everything in it, here and on the disk.
    pub(super) fn evict(&mut self, number: u64) -> Result<(), StoreError> {
        let Some(pack) = self.packs.remove(&number) else {
            return Ok(());
        };
        self.index.retain(|_, packed| packed.pack != number);
        self.bytes = self.bytes.saturating_sub(pack.bytes);
        let path = pack.file.path();
        tracing::info!(pack = %path.display(), bytes = pack.bytes, "pack evicted");
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io(path, error))
            }
            _ => Ok(()),
        }
    }

    /// Lets the disk know of the last uses, for the order of eviction after a restart.
    pub(super) fn persist_last_uses(&mut self) {
        for pack in self.packs.values_mut() {
            let last_used = pack.last_used.load(Ordering::Relaxed);
            if last_used > pack.persisted_last_used {
                pack.persisted_last_used = last_used;
                let _ = pack.file.file().set_modified(layer_record::time(last_used));
            }
        }
    }

    /// Packs without anything that counts, but for the one that is being filled, go.
    fn clear_empty(&mut self) {
        let newest = self.packs.last_key_value().map(|(number, _)| *number);
        self.packs.retain(|number, pack| {
            let stays = pack.bytes > 0 || Some(*number) == newest;
            if !stays {
                let _ = fs::remove_file(pack.file.path());
            }
            stays
        });
    }
}

/// `<number>.pack`
fn number_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".pack")?.parse().ok()
}
