//! A file that arrives straight from its source, and what of it survives a crash.
//!
//! `part` holds the bytes, `part.json` the record: which bytes are there, and of which content.
//! The record is replaced after the data was synced, so what it names is on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::byte_ranges::ByteRanges;
use super::validator::Validator;

const DATA: &str = "part";
const RECORD: &str = "part.json";
/// A record with as many ranges as a swarm has pieces at most.
const LONGEST_RECORD: u64 = 64 * 1024 * 1024;

/// What the bytes are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartContent {
    /// Which content and which range of it was asked for.
    pub(super) name: String,
    pub(super) validator: Validator,
    /// First byte that is wanted.
    pub(super) start: u64,
    /// The byte behind the last one, once it is known.
    pub(super) end: Option<u64>,
    /// Bytes of the whole content, when the source tells.
    pub(super) total: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    content: PartContent,
    /// In bytes of the content, not of the file.
    held: ByteRanges,
}

/// The file and its record. Methods that touch the disk block.
#[derive(Debug)]
pub(super) struct PartFile {
    dir: PathBuf,
    data: File,
    record: Mutex<Record>,
    /// Held while the record is replaced.
    syncing: Mutex<()>,
}

impl PartFile {
    /// What an earlier run left in `dir` of what is `name`d so; none when there is nothing, or
    /// nothing that can be understood.
    pub(super) fn open(dir: &Path, name: &str) -> Option<Self> {
        let mut text = Vec::new();
        let record = File::open(dir.join(RECORD)).ok()?;
        record.take(LONGEST_RECORD).read_to_end(&mut text).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        let data = OpenOptions::new()
            .read(true)
            .write(true)
            .open(dir.join(DATA));
        let data = data.ok()?;
        let content = &record.content;
        let long_enough =
            data.metadata().ok()?.len() >= record.held.end().saturating_sub(content.start);
        let within = content
            .end
            .is_none_or(|end| content.start <= end && record.held.end() <= end);
        let sound = content.name == name && long_enough && within;
        sound.then(|| Self::with(dir, data, record))
    }

    /// Begins anew.
    pub(super) fn create(dir: &Path, content: PartContent) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let _ = fs::remove_file(dir.join(RECORD));
        let data = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(dir.join(DATA))?;
        let held = ByteRanges::default();
        Ok(Self::with(dir, data, Record { content, held }))
    }

    fn with(dir: &Path, data: File, record: Record) -> Self {
        Self {
            dir: dir.to_owned(),
            data,
            record: Mutex::new(record),
            syncing: Mutex::new(()),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.join(DATA)
    }

    pub(super) fn content(&self) -> PartContent {
        self.lock().content.clone()
    }

    /// Bytes that are here.
    pub(super) fn held(&self) -> u64 {
        self.lock().held.count()
    }

    /// Bytes that are wanted, once that is known.
    pub(super) fn wanted(&self) -> Option<u64> {
        let record = self.lock();
        let end = record.content.end?;
        Some(end.saturating_sub(record.content.start))
    }

    /// The first bytes that are missing; an open end where it is not known. None: all are here.
    pub(super) fn first_gap(&self) -> Option<(u64, Option<u64>)> {
        let record = self.lock();
        let (start, next) = record.held.gap_from(record.content.start);
        let end = record.content.end;
        match end {
            Some(end) if start >= end => None,
            _ => Some((start, next.or(end))),
        }
    }

    /// The source ended here.
    pub(super) fn ends_at(&self, end: u64) {
        self.lock().content.end = Some(end);
    }

    /// Writes what belongs at byte `position` of the content.
    pub(super) fn write(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let start = self.lock().content.start;
        let offset = position
            .checked_sub(start)
            .ok_or_else(|| io::Error::other("before the range"))?;
        self.data.write_all_at(bytes, offset)?;
        self.lock()
            .held
            .add(position..position + bytes.len() as u64);
        Ok(())
    }

    /// Whether these bytes are here.
    pub(super) fn has(&self, range: &Range<u64>) -> bool {
        self.lock().held.gap_from(range.start).0 >= range.end
    }

    /// Makes what is written now survive a crash: first the data, then the record.
    pub(super) fn sync(&self) -> io::Result<()> {
        let _turn = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = serde_json::to_vec(&*self.lock())?;
        self.data.sync_data()?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(&text)?;
        file.as_file().sync_data()?;
        file.persist(self.dir.join(RECORD))?;
        File::open(&self.dir)?.sync_all()
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> PartContent {
        PartContent {
            name: "n".to_owned(),
            validator: Validator::of_swarm("\"a\""),
            start: 100,
            end: Some(200),
            total: Some(1000),
        }
    }

    #[test]
    fn what_was_synced_is_found_again_and_what_was_not_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let part = PartFile::create(dir.path(), content()).unwrap();
        part.write(100, b"abc").unwrap();
        part.write(150, b"xyz").unwrap();
        part.sync().unwrap();
        part.write(103, b"lost").unwrap();
        drop(part);
        let part = PartFile::open(dir.path(), "n").unwrap();
        assert_eq!(part.content(), content());
        assert_eq!(part.held(), 6);
        assert_eq!(part.first_gap(), Some((103, Some(150))));
        assert!(part.has(&(150..153)) && !part.has(&(150..154)));
        assert_eq!(part.wanted(), Some(100));
    }

    #[test]
    fn what_is_of_another_name_damaged_or_cut_short_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let part = PartFile::create(dir.path(), content()).unwrap();
        assert!(PartFile::open(dir.path(), "n").is_none(), "never synced");
        part.write(100, b"abc").unwrap();
        part.sync().unwrap();
        assert!(PartFile::open(dir.path(), "m").is_none());
        OpenOptions::new()
            .write(true)
            .open(part.path())
            .unwrap()
            .set_len(2)
            .unwrap();
        assert!(PartFile::open(dir.path(), "n").is_none());
        fs::write(dir.path().join(RECORD), "{").unwrap();
        assert!(PartFile::open(dir.path(), "n").is_none());
    }

    #[test]
    fn a_new_beginning_leaves_no_old_record() {
        let dir = tempfile::tempdir().unwrap();
        let part = PartFile::create(dir.path(), content()).unwrap();
        part.write(100, b"abc").unwrap();
        part.sync().unwrap();
        let part = PartFile::create(dir.path(), content()).unwrap();
        assert_eq!(part.held(), 0);
        assert!(PartFile::open(dir.path(), "n").is_none());
    }

    #[test]
    fn an_unknown_end_stays_open_until_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let unknown = PartContent {
            start: 0,
            end: None,
            ..content()
        };
        let part = PartFile::create(dir.path(), unknown).unwrap();
        part.write(0, b"abc").unwrap();
        assert_eq!(part.first_gap(), Some((3, None)));
        part.ends_at(3);
        assert_eq!(part.first_gap(), None);
    }
}
