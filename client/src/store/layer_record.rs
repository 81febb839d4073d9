//! What `layer.json` says of a layer.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flotilla_torrents::{ContentId, Digest, Geometry};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::StoreError;

pub(super) const RECORD: &str = "layer.json";

/// The record. Its file's time of modification is the layer's last use.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) content: ContentId,
    pub(super) length: u64,
    pub(super) piece_length: u32,
    /// Scheme, host and port of the source that the bytes come from.
    pub(super) origin: String,
    /// Where the source has content that no digest names, without what may be secret in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    /// SHA-256 of the whole, once it was compared with the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sealed: Option<Digest>,
    /// When the bytes of a sealed layer were last written, Unix nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) written: Option<u64>,
    /// Never evicted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) pinned: bool,
}

impl LayerRecord {
    /// Of content that has just begun to come.
    pub(super) fn new(content: ContentId, geometry: &Geometry, origin: &str) -> Self {
        Self {
            content,
            length: geometry.length(),
            piece_length: geometry.piece_length(),
            origin: origin.to_owned(),
            url: None,
            sealed: None,
            written: None,
            pinned: false,
        }
    }

    /// Reads the record of the layer in `dir`, and when the layer was last used (Unix
    /// milliseconds).
    pub(super) fn read(dir: &Path) -> Result<(Self, u64), StoreError> {
        let path = dir.join(RECORD);
        let text = fs::read(&path).map_err(|e| StoreError::io(&path, e))?;
        let record = serde_json::from_slice(&text).map_err(|e| StoreError::Malformed {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        let used = fs::metadata(&path).and_then(|file| file.modified());
        let used = used.map_err(|e| StoreError::io(&path, e))?;
        Ok((record, millis(used).min(now_millis())))
    }

    /// Replaces the record. A crash before the end leaves the old one or none; the store
    /// clears away a layer without record.
    pub(super) fn write(&self, dir: &Path, last_used: u64) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        // In one piece: to_writer makes a system call of each token.
        file.write_all(&serde_json::to_vec(self)?)?;
        file.as_file().set_modified(time(last_used))?;
        give_to_owner(file.as_file(), dir)?;
        file.as_file().sync_data()?;
        file.persist(dir.join(RECORD))?;
        File::open(dir)?.sync_all()
    }
}

/// What root writes for a store of another user has to be that user's.
fn give_to_owner(file: &File, dir: &Path) -> io::Result<()> {
    let (owner, us) = (fs::metadata(dir)?, file.metadata()?);
    if us.uid() == 0 && owner.uid() != 0 {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// As [`give_to_owner`], for a new directory `dir` and these files in it. It is in the hands of that
/// user, who may have put other things into their places: names are not followed, and only what was
/// looked at is given away.
pub(super) fn give_dir_to_owner(dir: &Path, files: &[&str]) -> io::Result<()> {
    let owner = fs::metadata(dir.parent().unwrap_or(dir))?;
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    let give = |file: &File| fchown(file, Some(owner.uid()), Some(owner.gid()));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let directory = rustix::fs::open(dir, flags | OFlags::DIRECTORY, Mode::empty())?;
    for name in files {
        match rustix::fs::openat(&directory, *name, flags, Mode::empty()) {
            Ok(file) => {
                let file = File::from(file);
                let found = file.metadata()?;
                if found.is_file() && found.nlink() == 1 {
                    give(&file)?;
                }
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    give(&File::from(directory))
}

/// Notes when the layer in `dir` was last used, if it has a record.
pub(super) fn persist_last_used(dir: &Path, last_used: u64) -> io::Result<()> {
    File::open(dir.join(RECORD))?.set_modified(time(last_used))
}

pub(super) fn now_millis() -> u64 {
    millis(SystemTime::now())
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The file's time of modification, Unix milliseconds.
pub(super) fn modified_millis(file: &File) -> io::Result<u64> {
    Ok(millis(file.metadata()?.modified()?))
}

/// When the file was last written, Unix nanoseconds.
pub(super) fn mtime_nanos(file: &File) -> io::Result<u64> {
    let modified = file.metadata()?.modified()?;
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

pub(super) fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(millis))
        .unwrap_or(UNIX_EPOCH)
}
