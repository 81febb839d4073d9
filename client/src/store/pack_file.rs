//! One file of the [packs](super::packs): frames, one after the other.
//!
//! A frame is a byte that says whether its content counts, the length of its record (32 bits, big
//! endian), the record (JSON), and the content's bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::FallocateFlags;

use super::layer_record::LayerRecord;

const LIVE: u8 = b'+';
const DEAD: u8 = b'-';
const HEAD: usize = 5;
/// The longest record that is believed; what is written has a few hundred bytes.
const MAX_RECORD_LENGTH: usize = 64 * 1024;
/// Read at once when frames are looked for: a head and, usually, its record.
const READ_AHEAD: usize = 1024;

/// The file. Its methods block on the disk.
#[derive(Debug)]
pub(super) struct PackFile {
    path: PathBuf,
    file: File,
}

/// Where a frame stands in its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its first byte.
    pub(super) start: u64,
    /// The content's first byte.
    pub(super) content: u64,
    /// Behind its last byte.
    pub(super) end: u64,
}

impl Place {
    /// Bytes that the frame takes.
    pub(super) fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    fn at(start: u64, record: usize, content: u64) -> Self {
        let content_starts = start + (HEAD + record) as u64;
        Self {
            start,
            content: content_starts,
            end: content_starts.saturating_add(content),
        }
    }
}

/// A frame, ready to be written anywhere in a file.
#[derive(Debug)]
pub(super) struct Frame {
    bytes: Vec<u8>,
    record: usize,
}

impl Frame {
    /// `content`: the bytes that `record` is of.
    pub(super) fn new(record: &LayerRecord, content: &[u8]) -> io::Result<Self> {
        let record = serde_json::to_vec(record)?;
        let length = u32::try_from(record.len())
            .ok()
            .filter(|_| record.len() <= MAX_RECORD_LENGTH)
            .ok_or_else(|| io::Error::other("the record of this content is too long"))?;
        let mut bytes = Vec::with_capacity(HEAD + record.len() + content.len());
        bytes.push(LIVE);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&record);
        bytes.extend_from_slice(content);
        Ok(Self {
            bytes,
            record: record.len(),
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Where it stands when it begins at `start`.
    pub(super) fn place_at(&self, start: u64) -> Place {
        let content = self.bytes.len() - HEAD - self.record;
        Place::at(start, self.record, content as u64)
    }
}

impl PackFile {
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok(Self { path, file })
    }

    /// Opens what an earlier run left; also returns what counts in it. What follows the last
    /// frame that is whole is cut off.
    pub(super) fn open(path: PathBuf) -> io::Result<(Self, Vec<(LayerRecord, Place)>)> {
        let file = File::options().read(true).write(true).open(&path)?;
        let length = file.metadata()?.len();
        let mut found = Vec::new();
        let mut end = 0;
        while let Some((state, record, place)) = frame_at(&file, end, length)? {
            end = place.end;
            if state == LIVE {
                found.push((record, place));
            }
        }
        if end < length {
            file.set_len(end)?;
        }
        Ok((Self { path, file }, found))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn write(&self, frame: &Frame, place: Place) -> io::Result<()> {
        self.file.write_all_at(&frame.bytes, place.start)
    }

    /// The bytes of the content; nothing says yet that they are what was written.
    pub(super) fn read(&self, place: Place) -> io::Result<Bytes> {
        let length = usize::try_from(place.end.saturating_sub(place.content));
        let mut content = vec![0; length.map_err(io::Error::other)?];
        self.file.read_exact_at(&mut content, place.content)?;
        Ok(content.into())
    }

    /// From now on the content does not count, also after a restart. Its room on the disk is free
    /// at once where the file system can do that, else when the file goes.
    pub(super) fn mark_dead(&self, place: Place) -> io::Result<()> {
        self.file.write_all_at(&[DEAD], place.start)?;
        let length = place.end.saturating_sub(place.content);
        if length > 0 {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = rustix::fs::fallocate(&self.file, hole, place.content, length);
        }
        Ok(())
    }
}

/// The frame at `start`, if there is a whole one before `end`.
fn frame_at(file: &File, start: u64, end: u64) -> io::Result<Option<(u8, LayerRecord, Place)>> {
    let ahead = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; ahead.min(READ_AHEAD)];
    file.read_exact_at(&mut bytes, start)?;
    let Some((&[state, a, b, c, d], rest)) = bytes.split_first_chunk::<HEAD>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let is_whole = HEAD.saturating_add(length) <= ahead;
    if !matches!(state, LIVE | DEAD) || length > MAX_RECORD_LENGTH || !is_whole {
        return Ok(None);
    }
    let parsed = match rest.get(..length) {
        Some(record) => serde_json::from_slice(record),
        None => {
            let mut record = vec![0; length];
            file.read_exact_at(&mut record, start + HEAD as u64)?;
            serde_json::from_slice(&record)
        }
    };
    let Ok(record): Result<LayerRecord, _> = parsed else {
        return Ok(None);
    };
    let place = Place::at(start, length, record.length);
    Ok((place.end <= end).then_some((state, record, place)))
}
