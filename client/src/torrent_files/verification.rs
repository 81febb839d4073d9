//! Files on this disk compared with their torrent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use flotilla_torrents::{Metainfo, PieceIndex, PieceRanges, TorrentFile};

use super::Watch;
use super::piece_hashing::{PieceReader, Source, on_all_cores};

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// There is nothing at the path, or it cannot be reached.
    #[error("{path}: {source}")]
    Unreachable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The torrent is that of a directory, the path that of something else.
    #[error("{0} is not a directory, but the torrent describes one")]
    NoDirectory(PathBuf),
    /// The caller stopped it.
    #[error("interrupted")]
    Stopped,
}

/// How a file is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileState {
    /// There, with its length.
    Present,
    /// Not there.
    Missing,
    /// There, with this many bytes instead of its length.
    Length(u64),
    /// Something else has its path.
    NotAFile,
    /// It cannot be read.
    Unreadable(String),
}

/// A file that is not, or may not be, as its torrent says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The file's number in the torrent.
    pub file: usize,
    /// How it is on the disk.
    pub state: FileState,
    /// Pieces that fail because of this file.
    pub damaged: PieceRanges,
    /// Pieces that fail and are shared with other files, so that the fault may be theirs.
    pub doubtful: PieceRanges,
}

/// What came out of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Where the content was looked for.
    pub root: PathBuf,
    /// Pieces whose bytes are there and wrong.
    pub damaged: PieceRanges,
    /// Pieces of whose bytes some are not there or cannot be read.
    pub missing: PieceRanges,
    /// The files that are not whole, or may not be.
    pub files: Vec<FileReport>,
}

impl Verification {
    /// Whether all pieces match and all files have their lengths.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.missing.is_empty() && self.files.is_empty()
    }
}

enum Outcome {
    Whole,
    Damaged,
    Absent {
        file: usize,
        unreadable: Option<String>,
    },
}

/// Compares the content at `place`, or in the directory `place`, with the torrent. Files that the
/// torrent does not have are not looked at; symbolic links are followed. Blocks.
///
/// # Errors
/// There is nothing to compare with, or it was stopped. Damage is no error.
pub fn verify(
    torrent: &Metainfo,
    place: &Path,
    watch: Watch<'_>,
) -> Result<Verification, VerifyError> {
    let root = locate(torrent, place)?;
    let mut states: Vec<FileState> = torrent
        .files()
        .iter()
        .map(|file| state_of(&on_disk(torrent, &root, file), file))
        .collect();
    let sources: Vec<Source> = torrent
        .files()
        .iter()
        .zip(&states)
        .map(|(file, state)| match state {
            _ if file.is_padding() => Source::Zeros,
            FileState::Present | FileState::Length(_) => {
                Source::File(on_disk(torrent, &root, file))
            }
            _ => Source::Absent,
        })
        .collect();
    let (layout, geometry) = (torrent.layout(), torrent.geometry());
    let outcomes = on_all_cores(&geometry, watch, || {
        let mut reader = PieceReader::new(&layout, &sources);
        move |piece: PieceIndex| -> Result<(PieceIndex, Outcome), VerifyError> {
            let expected = usize::try_from(piece.get())
                .ok()
                .and_then(|index| torrent.pieces().get(index));
            let outcome = match reader.hash(geometry.piece_range(piece)) {
                Ok(hash) if Some(&hash) == expected => Outcome::Whole,
                Ok(_) => Outcome::Damaged,
                Err(failure) => Outcome::Absent {
                    file: failure.file,
                    unreadable: match failure.error.kind() {
                        io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => None,
                        _ => Some(failure.error.to_string()),
                    },
                },
            };
            Ok((piece, outcome))
        }
    })?;
    let outcomes = outcomes.ok_or(VerifyError::Stopped)?;
    let (mut damaged, mut missing) = (PieceRanges::default(), PieceRanges::default());
    let mut faults = vec![(PieceRanges::default(), PieceRanges::default()); states.len()];
    for (piece, outcome) in outcomes {
        let mut sharing = layout.spans(geometry.piece_range(piece)).map(|s| s.file);
        let culprit = match outcome {
            Outcome::Whole => continue,
            Outcome::Damaged => {
                damaged.push(piece);
                let first = sharing.next();
                first.filter(|_| sharing.next().is_none())
            }
            Outcome::Absent { file, unreadable } => {
                missing.push(piece);
                if let (Some(reason), Some(state)) = (unreadable, states.get_mut(file)) {
                    *state = FileState::Unreadable(reason);
                }
                Some(file)
            }
        };
        for span in layout.spans(geometry.piece_range(piece)) {
            if let Some((sure, doubtful)) = faults.get_mut(span.file) {
                let of_this_file = culprit == Some(span.file);
                if of_this_file { sure } else { doubtful }.push(piece);
            }
        }
    }
    let reports = states.into_iter().zip(faults).enumerate();
    let files = reports
        .map(|(file, (state, (damaged, doubtful)))| FileReport {
            file,
            state,
            damaged,
            doubtful,
        })
        .filter(|report| {
            let padding = torrent
                .files()
                .get(report.file)
                .is_some_and(TorrentFile::is_padding);
            let whole = report.damaged.is_empty() && report.doubtful.is_empty();
            !padding && (report.state != FileState::Present || !whole)
        })
        .collect();
    Ok(Verification {
        root,
        damaged,
        missing,
        files,
    })
}

/// Where the content is: at `place`, or in it under the torrent's name.
fn locate(torrent: &Metainfo, place: &Path) -> Result<PathBuf, VerifyError> {
    let metadata = fs::metadata(place).map_err(|source| VerifyError::Unreachable {
        path: place.to_owned(),
        source,
    })?;
    let below = place.join(torrent.name());
    if !torrent.is_directory() {
        return Ok(if metadata.is_dir() {
            below
        } else {
            place.to_owned()
        });
    }
    if !metadata.is_dir() {
        return Err(VerifyError::NoDirectory(place.to_owned()));
    }
    // The content may have a directory of its own name in it: what has more of the files is it.
    let present = |root: &Path| {
        let files = torrent.files().iter().filter(|file| !file.is_padding());
        files
            .filter(|file| state_of(&on_disk(torrent, root, file), file) == FileState::Present)
            .count()
    };
    let is_below = below.is_dir() && present(&below) >= present(place);
    Ok(if is_below { below } else { place.to_owned() })
}

fn on_disk(torrent: &Metainfo, root: &Path, file: &TorrentFile) -> PathBuf {
    if torrent.is_directory() {
        root.join(file.relative_path())
    } else {
        root.to_owned()
    }
}

fn state_of(path: &Path, file: &TorrentFile) -> FileState {
    if file.is_padding() {
        return FileState::Present;
    }
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => FileState::NotAFile,
        Ok(found) if found.len() == file.length() => FileState::Present,
        Ok(found) => FileState::Length(found.len()),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FileState::Missing,
            _ => FileState::Unreadable(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use flotilla_torrents::{Geometry, PieceHash};
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn compared(torrent: &Metainfo, place: &Path) -> Result<Verification, VerifyError> {
        let (advanced, stop) = (&|_| (), &CancellationToken::new());
        verify(torrent, place, Watch { advanced, stop })
    }

    #[test]
    fn content_with_a_directory_of_its_own_name_in_it_is_found() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("app");
        fs::create_dir_all(root.join("app")).unwrap();
        fs::write(root.join("app/inner"), b"inner").unwrap();
        fs::write(root.join("outer"), b"outer").unwrap();
        let file = |path: &[&str]| {
            let path = path.iter().map(|name| (*name).to_owned()).collect();
            TorrentFile::new(path, 5).unwrap()
        };
        let files = vec![file(&["app", "inner"]), file(&["outer"])];
        let geometry = Geometry::new(10, 1 << 14).unwrap();
        let pieces = vec![PieceHash::of(b"innerouter")];
        let torrent = Metainfo::of_directory("app", files, geometry, pieces, false).unwrap();
        for place in [scratch.path(), &root] {
            let found = compared(&torrent, place).unwrap();
            assert!(found.is_whole(), "{found:?}");
            assert_eq!(found.root, root);
        }
        let file = compared(&torrent, &root.join("outer"));
        assert!(matches!(file, Err(VerifyError::NoDirectory(_))));
    }

    #[test]
    fn padding_counts_as_zeros_that_are_not_on_the_disk() {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::write(scratch.path().join(name), name).unwrap();
        }
        let content = [&b"a"[..], &[0; 16_383], b"b"].concat();
        let pieces: Vec<u8> = content
            .chunks(1 << 14)
            .flat_map(|piece| *PieceHash::of(piece).as_bytes())
            .collect();
        let head = "d4:infod5:filesld6:lengthi1e4:pathl1:aee\
            d4:attr1:p6:lengthi16383e4:pathl4:.pad1:1ee\
            d6:lengthi1e4:pathl1:beee4:name1:d12:piece lengthi16384e6:pieces40:";
        let bytes = [head.as_bytes(), &pieces, b"ee"].concat();
        let torrent = Metainfo::from_bytes(&bytes).unwrap();
        let found = compared(&torrent, scratch.path()).unwrap();
        assert!(found.is_whole(), "{found:?}");
    }
}
