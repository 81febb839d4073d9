//! The files of a torrent of a directory (BEP 3 `files`, BEP 47 `attr`), safe to join to a path.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::bencode::{self, DictWriter};

/// Longest file name (the limit of Linux's file systems).
const MAX_NAME_BYTES: usize = 255;
/// Longest path below the torrent's directory (`PATH_MAX` of Linux).
const MAX_PATH_BYTES: usize = 4096;
/// Most files: what the longest .torrent has room for, and not much less than a file system's.
const MAX_FILES: usize = 1 << 20;
/// Bytes of a refused path that an error repeats.
const SHOWN_PATH: usize = 255;

/// A list of files that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileListError {
    /// No files, or too many.
    #[error("torrent of {0} files, expected 1 to {MAX_FILES}")]
    Count(usize),
    /// A component is empty, `.` or `..`, too long, no UTF-8, or has a separator or NUL in it.
    #[error(
        "unsafe path {0:?} in the torrent, expected plain file names of at most {MAX_NAME_BYTES} bytes"
    )]
    Unsafe(String),
    /// There are no components, or too long ones in all.
    #[error("path of {0} bytes in the torrent, expected 1 to {MAX_PATH_BYTES}")]
    PathLength(usize),
    /// Two files have the same path.
    #[error("path {0:?} is twice in the torrent")]
    Duplicate(String),
    /// A file's path is also that of a directory with other files.
    #[error("path {0:?} in the torrent is both a file and a directory")]
    FileAndDirectory(String),
    /// A symbolic link (BEP 47), which this program neither makes nor follows.
    #[error("path {0:?} in the torrent is a symbolic link, expected regular files")]
    Symlink(String),
    /// The lengths of the files do not add up to the whole.
    #[error("files of {found} bytes in all, expected {expected}")]
    Length {
        /// Bytes of the whole.
        expected: u64,
        /// Bytes of the files; the greatest number when it is beyond 64 bits.
        found: u64,
    },
}

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorrentFile {
    path: Vec<String>,
    length: u64,
    padding: bool,
}

impl TorrentFile {
    /// A file below the torrent's directory, its path in components.
    ///
    /// # Errors
    /// There is no component, or one that is no plain file name.
    pub fn new(path: Vec<String>, length: u64) -> Result<Self, FileListError> {
        let bytes = path.iter().map(|name| name.len().saturating_add(1)).sum();
        if !(1..=MAX_PATH_BYTES).contains(&bytes) {
            return Err(FileListError::PathLength(bytes));
        }
        if !path.iter().all(|name| is_file_name(name)) {
            return Err(FileListError::Unsafe(shown(&path)));
        }
        Ok(Self {
            path,
            length,
            padding: false,
        })
    }

    /// The only file of a torrent: its name is the torrent's.
    pub(super) fn single(length: u64) -> Self {
        Self {
            path: Vec::new(),
            length,
            padding: false,
        }
    }

    /// The components below the torrent's directory; none in a torrent of one file.
    pub fn path(&self) -> &[String] {
        &self.path
    }

    /// The path below the torrent's directory: relative, and stays below it.
    pub fn relative_path(&self) -> PathBuf {
        self.path.iter().collect()
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether it stands for zeros that fill a piece and is not on the disk (BEP 47 `attr` p).
    pub fn is_padding(&self) -> bool {
        self.padding
    }

    pub(super) fn encoded(&self) -> Vec<u8> {
        let path = self
            .path
            .iter()
            .map(|name| bencode::string(name.as_bytes()));
        let mut file = DictWriter::default();
        file.integer("length", self.length)
            .raw(b"path", bencode::list(path));
        if self.padding {
            file.string("attr", "p");
        }
        file.finish()
    }
}

/// The path with `/` between its components.
impl fmt::Display for TorrentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, name) in self.path.iter().enumerate() {
            if number > 0 {
                f.write_str("/")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
pub(super) struct WireFile {
    attr: Option<serde_bytes::ByteBuf>,
    length: u64,
    path: Vec<serde_bytes::ByteBuf>,
}

impl TryFrom<WireFile> for TorrentFile {
    type Error = FileListError;

    fn try_from(wire: WireFile) -> Result<Self, FileListError> {
        let lossy = |name: &serde_bytes::ByteBuf| String::from_utf8_lossy(name).into_owned();
        let path: Vec<String> = wire.path.iter().map(lossy).collect();
        if wire
            .path
            .iter()
            .zip(&path)
            .any(|(raw, name)| raw.as_slice() != name.as_bytes())
        {
            return Err(FileListError::Unsafe(shown(&path)));
        }
        let attr = wire.attr.unwrap_or_default();
        if attr.contains(&b'l') {
            return Err(FileListError::Symlink(shown(&path)));
        }
        let mut file = Self::new(path, wire.length)?;
        file.padding = attr.contains(&b'p');
        Ok(file)
    }
}

/// Whether `name` is one path component that names a file.
pub(super) fn is_file_name(name: &str) -> bool {
    let reserved = matches!(name, "" | "." | "..");
    !reserved && name.len() <= MAX_NAME_BYTES && !name.contains(['/', '\\', '\0'])
}

/// Bytes of all files.
pub(super) fn total_length(files: &[TorrentFile]) -> Result<u64, FileListError> {
    let mut lengths = files.iter().map(TorrentFile::length);
    let total = lengths.try_fold(0_u64, |sum, length| {
        // Bencode has no number beyond this.
        sum.checked_add(length)
            .filter(|sum| *sum <= i64::MAX.unsigned_abs())
    });
    total.ok_or(FileListError::Length {
        expected: i64::MAX.unsigned_abs(),
        found: u64::MAX,
    })
}

/// Checks what only shows in the whole list.
pub(super) fn check(files: &[TorrentFile], expected: u64) -> Result<(), FileListError> {
    if !(1..=MAX_FILES).contains(&files.len()) {
        return Err(FileListError::Count(files.len()));
    }
    let found = total_length(files)?;
    if found != expected {
        return Err(FileListError::Length { expected, found });
    }
    // Padding files are not on the disk, and real torrents have several of one path.
    let on_disk = || files.iter().filter(|file| !file.padding);
    let mut paths: HashSet<&[String]> = HashSet::new();
    for file in on_disk() {
        if !paths.insert(&file.path) {
            return Err(FileListError::Duplicate(shown(&file.path)));
        }
    }
    for file in on_disk() {
        let mut directory = file.path.as_slice();
        while let Some((_, parent)) = directory.split_last() {
            if paths.contains(parent) {
                return Err(FileListError::FileAndDirectory(shown(parent)));
            }
            directory = parent;
        }
    }
    Ok(())
}

fn shown(path: &[String]) -> String {
    let whole = path.join("/");
    whole.chars().take(SHOWN_PATH).collect()
}
