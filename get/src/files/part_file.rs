//! A file that arrives straight from its source, and what of it survives a crash.
//!
//! `part` holds the bytes, `part.json` the record: which bytes are there, and of which content.
//! The record is replaced after the data was synced, so what it names is on the disk. What was
//! written since is noted in `part.unsynced` with its hash: when the process is killed the bytes
//! are there, when the host is they may not be.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use flotilla_torrents::PieceHash;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::byte_ranges::ByteRanges;
use crate::http::validator::Validator;

const DATA: &str = "part";
const RECORD: &str = "part.json";
const UNSYNCED: &str = "part.unsynced";
/// First byte and count (8 bytes each, big endian), SHA-1.
const NOTE: usize = 36;
/// Notes that are read: a gigabyte in parts of 4 KiB.
const MAX_NOTES: usize = 1 << 18;
/// Bytes that one note may be of.
const MAX_NOTED_LENGTH: u64 = 16 * 1024 * 1024;
/// A record with as many ranges as a swarm has pieces at most.
const MAX_RECORD_LENGTH: u64 = 64 * 1024 * 1024;

/// What the bytes are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartContent {
    /// Which content and which range of it was asked for.
    pub(crate) name: String,
    pub(crate) validator: Validator,
    /// First byte that is wanted.
    pub(crate) start: u64,
    /// The byte after the last one, once it is known.
    pub(crate) end: Option<u64>,
    /// Bytes of the whole content, when the source tells.
    pub(crate) total: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    content: PartContent,
    /// In bytes of the content, not of the file.
    held: ByteRanges,
}

/// What was written since the last sync.
#[derive(Debug)]
struct Noted {
    file: File,
    notes: Vec<[u8; NOTE]>,
}

/// The file and its record. Methods that touch the disk block.
#[derive(Debug)]
pub(crate) struct PartFile {
    dir: PathBuf,
    data: File,
    record: Mutex<Record>,
    noted: Mutex<Noted>,
    /// Held while the record is replaced.
    syncing: Mutex<()>,
}

impl PartFile {
    /// What an earlier run left in `dir` of what is `name`d so; none when there is nothing, or
    /// nothing that can be understood.
    pub(crate) fn open(dir: &Path, name: &str) -> Option<Self> {
        let mut text = Vec::new();
        let record = File::open(dir.join(RECORD)).ok()?;
        record.take(MAX_RECORD_LENGTH).read_to_end(&mut text).ok()?;
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
        if content.name != name || !long_enough || !within {
            return None;
        }
        let part = Self::with(dir, data, record).ok()?;
        part.read_notes().ok()?;
        Some(part)
    }

    /// Starts over.
    pub(crate) fn create(dir: &Path, content: PartContent) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let _ = fs::remove_file(dir.join(RECORD));
        let data = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(dir.join(DATA))?;
        let held = ByteRanges::default();
        let _ = fs::remove_file(dir.join(UNSYNCED));
        let part = Self::with(dir, data, Record { content, held })?;
        // Not synced: for the case that the process is killed before the first sync.
        fs::write(dir.join(RECORD), serde_json::to_vec(&*part.lock())?)?;
        Ok(part)
    }

    fn with(dir: &Path, data: File, record: Record) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(dir.join(UNSYNCED))?;
        Ok(Self {
            dir: dir.to_owned(),
            data,
            record: Mutex::new(record),
            noted: Mutex::new(Noted {
                file,
                notes: Vec::new(),
            }),
            syncing: Mutex::new(()),
        })
    }

    /// Counts what is noted and there.
    fn read_notes(&self) -> io::Result<()> {
        let mut noted = self.noted.lock();
        let mut bytes = Vec::new();
        let most = (MAX_NOTES * NOTE) as u64;
        (&noted.file).take(most).read_to_end(&mut bytes)?;
        let content = self.content();
        for note in bytes.as_chunks::<NOTE>().0 {
            let Some(range) = noted_range(note, &content) else {
                continue;
            };
            let mut data = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
            let read = self
                .data
                .read_exact_at(&mut data, range.start - content.start);
            if read.is_ok() && note_of(range.start, &data) == *note {
                self.lock().held.add(range);
                noted.notes.push(*note);
            }
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(DATA)
    }

    pub(crate) fn content(&self) -> PartContent {
        self.lock().content.clone()
    }

    /// Bytes that are here.
    pub(crate) fn held(&self) -> u64 {
        self.lock().held.count()
    }

    /// Bytes that are wanted, once that is known.
    pub(crate) fn wanted(&self) -> Option<u64> {
        let record = self.lock();
        let end = record.content.end?;
        Some(end.saturating_sub(record.content.start))
    }

    /// The first bytes that are missing; an open end where it is not known. None: all are here.
    pub(crate) fn first_gap(&self) -> Option<(u64, Option<u64>)> {
        let record = self.lock();
        let (start, next) = record.held.gap_from(record.content.start);
        let end = record.content.end;
        match end {
            Some(end) if start >= end => None,
            _ => Some((start, next.or(end))),
        }
    }

    /// The source ended here.
    pub(crate) fn ends_at(&self, end: u64) {
        self.lock().content.end = Some(end);
    }

    /// Writes what belongs at byte `position` of the content.
    pub(crate) fn write(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let start = self.lock().content.start;
        let offset = position
            .checked_sub(start)
            .ok_or_else(|| io::Error::other("before the range"))?;
        self.data.write_all_at(bytes, offset)?;
        let note = note_of(position, bytes);
        let mut noted = self.noted.lock();
        noted.file.write_all(&note)?;
        noted.notes.push(note);
        self.lock()
            .held
            .add(position..position + bytes.len() as u64);
        Ok(())
    }

    /// Whether these bytes are here.
    pub(crate) fn has(&self, range: &Range<u64>) -> bool {
        self.lock().held.gap_from(range.start).0 >= range.end
    }

    /// Makes what is written now survive a crash: first the data, then the record.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let _turn = self.syncing.lock();
        let (text, recorded) = {
            let noted = self.noted.lock();
            (serde_json::to_vec(&*self.lock())?, noted.notes.len())
        };
        self.data.sync_data()?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(&text)?;
        file.as_file().sync_data()?;
        file.persist(self.dir.join(RECORD))?;
        File::open(&self.dir)?.sync_all()?;
        let mut noted = self.noted.lock();
        noted.notes.drain(..recorded);
        noted.file.set_len(0)?;
        let rest = noted.notes.concat();
        noted.file.write_all(&rest)
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock()
    }
}

fn note_of(position: u64, bytes: &[u8]) -> [u8; NOTE] {
    let (position, count) = (position.to_be_bytes(), (bytes.len() as u64).to_be_bytes());
    let hash = PieceHash::of(bytes);
    let mut parts = position.iter().chain(&count).chain(hash.as_bytes());
    std::array::from_fn(|_| parts.next().copied().unwrap_or_default())
}

/// The bytes that a note is of, if they are of this content.
fn noted_range(note: &[u8; NOTE], content: &PartContent) -> Option<Range<u64>> {
    let (start, rest) = note.split_first_chunk::<8>()?;
    let (count, _) = rest.split_first_chunk::<8>()?;
    let start = u64::from_be_bytes(*start);
    let count = Some(u64::from_be_bytes(*count)).filter(|count| *count <= MAX_NOTED_LENGTH)?;
    let end = start.checked_add(count)?;
    let is_within = start >= content.start && content.end.is_none_or(|most| end <= most);
    is_within.then_some(start..end)
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
        // As if the host had lost its power.
        part.data.write_all_at(b"L", 3).unwrap();
        drop(part);
        let part = PartFile::open(dir.path(), "n").unwrap();
        assert_eq!(part.content(), content());
        assert_eq!(part.held(), 6);
        assert_eq!(part.first_gap(), Some((103, Some(150))));
        assert!(part.has(&(150..153)) && !part.has(&(150..154)));
        assert_eq!(part.wanted(), Some(100));
    }

    #[test]
    fn what_a_killed_process_has_written_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let part = PartFile::create(dir.path(), content()).unwrap();
        part.write(100, b"abc").unwrap();
        drop(part);
        let part = PartFile::open(dir.path(), "n").unwrap();
        assert_eq!(part.held(), 3);
        part.write(150, b"xyz").unwrap();
        part.sync().unwrap();
        part.write(153, b"123").unwrap();
        drop(part);
        let part = PartFile::open(dir.path(), "n").unwrap();
        assert_eq!(part.held(), 9);
        for note in [[0xff; NOTE], [0; NOTE]] {
            assert_eq!(noted_range(&note, &content()), None);
        }
    }

    #[test]
    fn what_is_of_another_name_damaged_or_cut_short_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let part = PartFile::create(dir.path(), content()).unwrap();
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
        assert_eq!(PartFile::open(dir.path(), "n").unwrap().held(), 0);
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
