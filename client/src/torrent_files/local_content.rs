//! A file or directory that becomes a torrent.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flotilla_torrents::{
    FileLayout, FileListError, Geometry, GeometryError, Metainfo, MetainfoError, PieceHash,
    TorrentFile,
};

use super::Watch;
use super::piece_hashing::{PieceReader, Source, on_all_cores};

/// Why no torrent was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A file or directory cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name that other systems could not read: BEP 3 has UTF-8.
    #[error("{0}: the name is not UTF-8; rename it")]
    NotUtf8(PathBuf),
    /// Neither a file nor a directory with a name.
    #[error("{0}: expected a regular file or a directory with a name")]
    NoContent(PathBuf),
    /// There are no bytes to hash.
    #[error("{0} has no bytes, expected at least 1")]
    Empty(PathBuf),
    /// A file is not what it was at the start.
    #[error("{0} changed while it was read; run the command again when nothing writes to it")]
    Changed(PathBuf),
    /// A path that a torrent cannot have.
    #[error("{path}: {source}")]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        source: FileListError,
    },
    /// The piece length does not fit.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The torrent would exceed a bound.
    #[error(transparent)]
    Metainfo(#[from] MetainfoError),
    /// The caller stopped it.
    #[error("interrupted")]
    Stopped,
}

/// Something below the directory that is no part of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is a symbolic link; otherwise a socket, pipe or device.
    pub symlink: bool,
}

/// What is to be in a torrent: one regular file, or all regular files below a directory.
#[derive(Debug)]
pub struct LocalContent {
    root: PathBuf,
    name: String,
    directory: bool,
    files: Vec<LocalFile>,
    left_out: Vec<LeftOut>,
}

#[derive(Debug)]
struct LocalFile {
    path: PathBuf,
    file: Option<TorrentFile>,
    length: u64,
    modified: Option<SystemTime>,
}

impl LocalContent {
    /// Lists the content at `path`. Symbolic links below it are left out; `path` itself may be one.
    /// Files are in the order of the bytes of their paths, empty directories are not in torrents.
    ///
    /// # Errors
    /// Something cannot be read, or has a name that a torrent cannot have.
    pub fn find(path: &Path) -> Result<Self, CreateError> {
        let read = |source| CreateError::Read {
            path: path.to_owned(),
            source,
        };
        let metadata = fs::metadata(path).map_err(read)?;
        let name = match path.file_name() {
            Some(name) => name.to_owned(),
            None => {
                let absolute = fs::canonicalize(path).map_err(read)?;
                let name = absolute.file_name();
                name.ok_or_else(|| CreateError::NoContent(path.to_owned()))?
                    .to_owned()
            }
        };
        let mut content = Self {
            root: path.to_owned(),
            name: name
                .into_string()
                .map_err(|_| CreateError::NotUtf8(path.to_owned()))?,
            directory: metadata.is_dir(),
            files: Vec::new(),
            left_out: Vec::new(),
        };
        if metadata.is_dir() {
            content.walk()?;
        } else if metadata.is_file() {
            let file = LocalFile::new(path.to_owned(), None, &metadata);
            content.files.push(file);
        } else {
            return Err(CreateError::NoContent(path.to_owned()));
        }
        Ok(content)
    }

    fn walk(&mut self) -> Result<(), CreateError> {
        let mut files = Vec::new();
        let mut directories = vec![(self.root.clone(), Vec::<String>::new())];
        while let Some((directory, components)) = directories.pop() {
            let read = |source| CreateError::Read {
                path: directory.clone(),
                source,
            };
            for entry in fs::read_dir(&directory).map_err(read)? {
                let entry = entry.map_err(read)?;
                let path = entry.path();
                let kind = entry.file_type().map_err(read)?;
                if !kind.is_dir() && !kind.is_file() {
                    self.left_out.push(LeftOut {
                        path,
                        symlink: kind.is_symlink(),
                    });
                    continue;
                }
                let Ok(name) = entry.file_name().into_string() else {
                    return Err(CreateError::NotUtf8(path));
                };
                let mut components = components.clone();
                components.push(name);
                if kind.is_dir() {
                    directories.push((path, components));
                    continue;
                }
                let read = |source| CreateError::Read {
                    path: path.clone(),
                    source,
                };
                let metadata = entry.metadata().map_err(read)?;
                // What other tools sort by, so that equal content gives equal torrents.
                let key = components.join("/");
                let file = TorrentFile::new(components, metadata.len()).map_err(|source| {
                    CreateError::Path {
                        path: path.clone(),
                        source,
                    }
                })?;
                files.push((key, LocalFile::new(path, Some(file), &metadata)));
            }
        }
        files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        self.files = files.into_iter().map(|(_, file)| file).collect();
        self.left_out.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }

    /// The name that the torrent will have.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.directory
    }

    /// Bytes of all files.
    pub fn length(&self) -> u64 {
        let lengths = self.files.iter().map(|file| file.length);
        lengths.fold(0, u64::saturating_add)
    }

    /// What is no part of the content, in order.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// How the content is cut: by `piece_length`, or as [`Geometry::for_length`] chooses.
    ///
    /// # Errors
    /// There are no bytes, or the piece length does not fit.
    pub fn geometry(&self, piece_length: Option<u32>) -> Result<Geometry, CreateError> {
        let length = self.length();
        if length == 0 {
            return Err(CreateError::Empty(self.root.clone()));
        }
        Ok(match piece_length {
            Some(piece_length) => Geometry::new(length, piece_length)?,
            None => Geometry::for_length(length)?,
        })
    }

    /// Hashes the content. Equal content, name and piece length give an equal info hash. Blocks.
    ///
    /// # Errors
    /// A file cannot be read or changed meanwhile, the torrent exceeds a bound, or it was stopped.
    pub fn torrent(
        &self,
        geometry: Geometry,
        private: bool,
        watch: Watch<'_>,
    ) -> Result<Metainfo, CreateError> {
        // Whatever is refused is refused before the hashing.
        let placeholders = geometry.pieces().map(|_| PieceHash::from_bytes([0; 20]));
        self.metainfo(geometry, placeholders.collect(), private)?;
        let layout = FileLayout::new(self.files.iter().map(|file| file.length));
        let sources: Vec<_> = self
            .files
            .iter()
            .map(|file| Source::File(file.path.clone()))
            .collect();
        let hashes = on_all_cores(&geometry, watch, || {
            let mut reader = PieceReader::new(&layout, &sources);
            move |piece| reader.hash(geometry.piece_range(piece))
        });
        let hashes = hashes.map_err(|failure| {
            let file = self.files.get(failure.file);
            let path = file.map_or_else(|| self.root.clone(), |file| file.path.clone());
            match failure.error.kind() {
                io::ErrorKind::UnexpectedEof => CreateError::Changed(path),
                _ => CreateError::Read {
                    path,
                    source: failure.error,
                },
            }
        })?;
        let hashes = hashes.ok_or(CreateError::Stopped)?;
        if let Some(changed) = self.files.iter().find(|file| !file.is_unchanged()) {
            return Err(CreateError::Changed(changed.path.clone()));
        }
        Ok(self.metainfo(geometry, hashes, private)?)
    }

    fn metainfo(
        &self,
        geometry: Geometry,
        hashes: Vec<PieceHash>,
        private: bool,
    ) -> Result<Metainfo, MetainfoError> {
        if self.directory {
            let files = self.files.iter().filter_map(|file| file.file.clone());
            Metainfo::of_directory(&self.name, files.collect(), geometry, hashes, private)
        } else {
            Metainfo::new(&self.name, geometry, hashes, private, &[], &[])
        }
    }
}

impl LocalFile {
    fn new(path: PathBuf, file: Option<TorrentFile>, metadata: &Metadata) -> Self {
        Self {
            path,
            file,
            length: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }

    fn is_unchanged(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|now| {
            now.is_file() && now.len() == self.length && now.modified().ok() == self.modified
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn torrent(content: &LocalContent, stop: &CancellationToken) -> Result<Metainfo, CreateError> {
        let advanced = &|_| ();
        let geometry = content.geometry(Some(1 << 14))?;
        content.torrent(geometry, false, Watch { advanced, stop })
    }

    #[test]
    fn files_are_in_the_order_of_their_whole_paths() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("a")).unwrap();
        for name in ["a/x", "a-b", "a.b", "a0"] {
            fs::write(scratch.path().join(name), name).unwrap();
        }
        let content = LocalContent::find(scratch.path()).unwrap();
        let torrent = torrent(&content, &CancellationToken::new()).unwrap();
        let paths: Vec<_> = torrent.files().iter().map(ToString::to_string).collect();
        assert_eq!(paths, ["a-b", "a.b", "a/x", "a0"]);
        assert_eq!(torrent.pieces(), [PieceHash::of(b"a-ba.ba/xa0")]);
    }

    #[test]
    fn content_that_changes_while_it_is_read_makes_no_torrent() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        for later in [&b"longer"[..], b"s"] {
            fs::write(&path, b"short").unwrap();
            let content = LocalContent::find(&path).unwrap();
            fs::write(&path, later).unwrap();
            let error = torrent(&content, &CancellationToken::new()).unwrap_err();
            assert!(matches!(error, CreateError::Changed(_)), "{error}");
        }
    }

    #[test]
    fn what_is_stopped_makes_no_torrent() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        fs::write(&path, b"content").unwrap();
        let content = LocalContent::find(&path).unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let error = torrent(&content, &stop).unwrap_err();
        assert!(matches!(error, CreateError::Stopped), "{error}");
    }

    #[test]
    fn content_that_no_torrent_can_have_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let content = LocalContent::find(scratch.path()).unwrap();
        let error = content.geometry(None).unwrap_err();
        assert!(matches!(error, CreateError::Empty(_)), "{error}");
        fs::write(scratch.path().join("a\\b"), b"x").unwrap();
        let error = LocalContent::find(scratch.path()).unwrap_err();
        assert!(matches!(error, CreateError::Path { .. }), "{error}");
        let device = LocalContent::find(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(device, CreateError::NoContent(_)), "{device}");
    }
}
