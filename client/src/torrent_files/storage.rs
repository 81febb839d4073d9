//! The files of a torrent as a swarm reads and writes them, piece by piece.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use flotilla_torrents::{
    Bitfield, FileLayout, FileSpan, Geometry, Metainfo, PieceHash, PieceIndex, TorrentFile,
};
use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use super::piece_hashing::on_all_cores;
use super::{FileSelection, Watch};
use crate::piece_data::PieceData;
use crate::positioned;
use crate::store::Journal;

/// Files kept open; torrents may have a million.
const MAX_OPEN_FILES: usize = 64;
/// Names in the work directory of a download.
const CONTENT: &str = "content";
const JOURNAL: &str = "pieces";
const UNSELECTED: &str = "unselected";

/// The files of a torrent on this disk: whole ones that are seeded, or ones that arrive.
/// Methods block: call them from a blocking thread.
#[derive(Debug)]
pub struct TorrentStorage {
    torrent: Arc<Metainfo>,
    layout: FileLayout,
    selection: FileSelection,
    root: Root,
    /// The bytes of files that are not selected, in pieces that selected ones share, each where it is
    /// in the whole: a sparse file that is never published.
    unselected: Option<Arc<File>>,
    open: Mutex<VecDeque<(usize, Arc<File>)>>,
    /// From then on the files are the user's: none is made or written.
    is_published: AtomicBool,
    inner: Mutex<Inner>,
}

/// Open for as long as the storage lives, so that a download stays readable when it is renamed.
#[derive(Debug)]
enum Root {
    File(Arc<File>),
    Directory { directory: OwnedFd, writable: bool },
}

#[derive(Debug)]
struct Inner {
    held: Bitfield,
    /// Bytes of selected files in the pieces held.
    selected_bytes: u64,
    /// Where verified pieces are recorded; what is only seeded needs none.
    journal: Option<Journal>,
    unsynced: Vec<(PieceIndex, PieceHash)>,
    /// Files with bytes that were written since the last sync.
    dirty: BTreeSet<usize>,
}

impl TorrentStorage {
    /// Content that is whole, as [`verify`](super::verify) has found it at `root`. Nothing is
    /// written. Symbolic links are followed, as they were when it was verified.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn whole(torrent: Arc<Metainfo>, root: &Path) -> io::Result<Self> {
        let opened = if torrent.is_directory() {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            Root::Directory {
                directory: openat(CWD, root, OFlags::RDONLY | flags, Mode::empty())?,
                writable: false,
            }
        } else {
            Root::File(Arc::new(File::open(root)?))
        };
        let selection = FileSelection::all(&torrent);
        let storage = Self::new(torrent, selection, opened, None);
        let held = Bitfield::full(&storage.geometry());
        storage.begin_with(held);
        Ok(storage)
    }

    /// A download of the files in `selection` in `work_dir`, new or gone on with. Pieces that an earlier run has recorded are
    /// compared with their hashes again, since the disk may have been touched meanwhile.
    ///
    /// # Errors
    /// The directory cannot be written, has a symbolic link where content belongs, or the
    /// comparison was stopped (`Interrupted`).
    pub fn arriving(
        torrent: Arc<Metainfo>,
        selection: FileSelection,
        work_dir: &Path,
        watch: Watch<'_>,
    ) -> io::Result<Self> {
        fs::create_dir_all(work_dir)?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let work = openat(CWD, work_dir, OFlags::RDONLY | flags, Mode::empty())?;
        let root = if torrent.is_directory() {
            Root::Directory {
                directory: directory_in(&work, CONTENT)?,
                writable: true,
            }
        } else {
            Root::File(Arc::new(file_in(&work, CONTENT)?))
        };
        let geometry = torrent.geometry();
        let (journal, recorded) = Journal::open(&work_dir.join(JOURNAL), &geometry)?;
        let mut storage = Self::new(torrent, selection, root, Some(journal));
        if !storage.selection.is_all() {
            let unselected = file_in(&work, UNSELECTED)?;
            unselected.set_len(geometry.length())?;
            storage.unselected = Some(Arc::new(unselected));
        }
        storage.make_files()?;
        let mut claimed = Bitfield::empty(&geometry);
        for (piece, hash) in recorded {
            if storage.hash(piece) == Some(hash) {
                claimed.set(piece);
            }
        }
        let held = storage.compare(&claimed, watch)?;
        storage.begin_with(held);
        Ok(storage)
    }

    /// All of it is here and is about to get its own name.
    pub fn note_published(&self) {
        self.is_published.store(true, Ordering::Relaxed);
        let mut open = self.open.lock();
        open.clear();
    }

    fn new(
        torrent: Arc<Metainfo>,
        selection: FileSelection,
        root: Root,
        journal: Option<Journal>,
    ) -> Self {
        let held = Bitfield::empty(&torrent.geometry());
        Self {
            layout: torrent.layout(),
            torrent,
            selection,
            root,
            unselected: None,
            open: Mutex::new(VecDeque::new()),
            is_published: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                held,
                selected_bytes: 0,
                journal,
                unsynced: Vec::new(),
                dirty: BTreeSet::new(),
            }),
        }
    }

    fn begin_with(&self, held: Bitfield) {
        let selected = held.iter_set().map(|piece| self.selected_bytes_in(piece));
        let selected_bytes = selected.sum();
        let mut inner = self.lock();
        (inner.held, inner.selected_bytes) = (held, selected_bytes);
    }

    fn selected_bytes_in(&self, piece: PieceIndex) -> u64 {
        let spans = self.layout.spans(self.geometry().piece_range(piece));
        self.selection.bytes_in(spans)
    }

    /// Gives every selected file its place and length, the empty ones too.
    fn make_files(&self) -> io::Result<()> {
        for (number, file) in self.torrent.files().iter().enumerate() {
            if file.is_padding() || !self.selection.has(number) {
                continue;
            }
            let opened = self.file(number)?;
            if opened.metadata()?.len() != file.length() {
                opened.set_len(file.length())?;
            }
        }
        Ok(())
    }

    /// Those of the `claimed` pieces that match their hashes.
    fn compare(&self, claimed: &Bitfield, watch: Watch<'_>) -> io::Result<Bitfield> {
        let geometry = self.geometry();
        let matches = on_all_cores(&geometry, watch, || {
            |piece: PieceIndex| -> io::Result<Option<PieceIndex>> {
                if !claimed.has(piece) {
                    return Ok(None);
                }
                let size = usize::try_from(geometry.piece_size(piece)).unwrap_or(usize::MAX);
                let data = self.read(geometry.piece_offset(piece), size)?;
                Ok((self.hash(piece) == Some(PieceHash::of(&data))).then_some(piece))
            }
        })?;
        let matches = matches.ok_or(io::ErrorKind::Interrupted)?;
        let mut held = Bitfield::empty(&geometry);
        for piece in matches.into_iter().flatten() {
            held.set(piece);
        }
        Ok(held)
    }

    /// The torrent.
    pub fn torrent(&self) -> &Arc<Metainfo> {
        &self.torrent
    }

    /// Its cut into pieces.
    pub fn geometry(&self) -> Geometry {
        self.torrent.geometry()
    }

    /// The pieces that are to be held: all, or those that the selected files lie in.
    pub fn wanted(&self) -> &Bitfield {
        self.selection.wanted()
    }

    /// Bytes of the selected files.
    pub fn selected_length(&self) -> u64 {
        self.selection.length()
    }

    /// Those of them that are held.
    pub fn selected_bytes(&self) -> u64 {
        self.lock().selected_bytes
    }

    /// Whether all wanted pieces are held.
    pub fn is_complete(&self) -> bool {
        let inner = self.lock();
        let mut wanted = self.wanted().iter_set();
        wanted.all(|piece| inner.held.has(piece))
    }

    /// The pieces held now.
    pub fn held(&self) -> Bitfield {
        self.lock().held.clone()
    }

    /// Whether `piece` is held.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.lock().held.has(piece)
    }

    fn hash(&self, piece: PieceIndex) -> Option<PieceHash> {
        let index = usize::try_from(piece.get()).ok()?;
        self.torrent.pieces().get(index).copied()
    }

    /// Writes a verified piece. It counts as held at once, and in a later run only when
    /// [`sync`](Self::sync) has recorded it.
    ///
    /// # Errors
    /// A file could not be written.
    pub fn write_piece(&self, piece: PieceIndex, data: &PieceData) -> io::Result<()> {
        let mut start = 0;
        let mut written = Vec::new();
        for span in self.layout.spans(self.geometry().piece_range(piece)) {
            let length = usize::try_from(span.length).map_err(io::Error::other)?;
            let part = data.slice(start..start.saturating_add(length));
            if part.len() != length {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            start += length;
            if !self.is_padding(span) {
                let (file, offset) = self.place(span)?;
                positioned::write_all(&file, &part, offset)?;
                written.push(span.file);
            }
        }
        let hash = self.hash(piece).ok_or(io::ErrorKind::InvalidInput)?;
        let selected_bytes = self.selected_bytes_in(piece);
        let mut inner = self.lock();
        if inner.held.set(piece) {
            inner.selected_bytes = inner.selected_bytes.saturating_add(selected_bytes);
        }
        inner.unsynced.push((piece, hash));
        inner.dirty.extend(written);
        Ok(())
    }

    /// Reads `length` bytes at `offset` of the whole; the caller knows that the pieces are held.
    ///
    /// # Errors
    /// A file could not be read, or is shorter than it was.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; length];
        let mut rest = buffer.as_mut_slice();
        for span in self
            .layout
            .spans(offset..offset.saturating_add(length as u64))
        {
            let (part, after) = rest
                .split_at_mut_checked(usize::try_from(span.length).unwrap_or(usize::MAX))
                .ok_or(io::ErrorKind::InvalidInput)?;
            rest = after;
            if !self.is_padding(span) {
                let (file, offset) = self.place(span)?;
                file.read_exact_at(part, offset)?;
            }
        }
        Ok(buffer.into())
    }

    /// Bytes written since the last [`sync`](Self::sync).
    pub fn unsynced_bytes(&self) -> u64 {
        let piece_length = u64::from(self.geometry().piece_length());
        (self.lock().unsynced.len() as u64).saturating_mul(piece_length)
    }

    /// Makes the written pieces durable: first the files, then their records.
    ///
    /// # Errors
    /// The disk refused.
    pub fn sync(&self) -> io::Result<()> {
        let (written, dirty) = {
            let mut inner = self.lock();
            let dirty = std::mem::take(&mut inner.dirty);
            (std::mem::take(&mut inner.unsynced), dirty)
        };
        if written.is_empty() {
            return Ok(());
        }
        let synced = dirty
            .iter()
            .try_for_each(|number| self.file(*number)?.sync_data());
        let mut inner = self.lock();
        let recorded = synced.and_then(|()| match &mut inner.journal {
            Some(journal) => journal.append(&written),
            None => Ok(()),
        });
        if recorded.is_err() {
            inner.unsynced.extend(written);
            inner.dirty.extend(dirty);
        }
        recorded
    }

    fn is_padding(&self, span: FileSpan) -> bool {
        let file = self.torrent.files().get(span.file);
        file.is_some_and(TorrentFile::is_padding)
    }

    /// Where the bytes of this part are on the disk.
    fn place(&self, span: FileSpan) -> io::Result<(Arc<File>, u64)> {
        let file = self.file(span.file)?;
        if self.selection.has(span.file) {
            return Ok((file, span.offset));
        }
        let start = self.layout.file_range(span.file).start;
        Ok((file, start.saturating_add(span.offset)))
    }

    /// The file of this number, opened now or not long ago; of one that is not selected, that of all
    /// these.
    fn file(&self, number: usize) -> io::Result<Arc<File>> {
        if !self.selection.has(number) {
            let unselected = self.unselected.as_ref().ok_or(io::ErrorKind::NotFound)?;
            return Ok(Arc::clone(unselected));
        }
        let (directory, writable) = match &self.root {
            Root::File(file) => return Ok(Arc::clone(file)),
            Root::Directory {
                directory,
                writable,
            } => {
                let is_published = self.is_published.load(Ordering::Relaxed);
                (directory, *writable && !is_published)
            }
        };
        let mut open = self.open.lock();
        if let Some(at) = open.iter().position(|(known, _)| *known == number) {
            let found = open.remove(at).ok_or(io::ErrorKind::NotFound)?;
            let file = Arc::clone(&found.1);
            open.push_back(found);
            return Ok(file);
        }
        let path = self
            .torrent
            .files()
            .get(number)
            .ok_or(io::ErrorKind::NotFound)?;
        let file = Arc::new(if writable {
            arriving_file(directory, path.path())?
        } else {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            openat(directory, path.relative_path(), flags, Mode::empty())?.into()
        });
        if open.len() >= MAX_OPEN_FILES {
            open.pop_front();
        }
        open.push_back((number, Arc::clone(&file)));
        Ok(file)
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

/// Lets the content of a finished download appear at `output`, at once and whole. An existing file
/// gives way, an existing directory with anything in it does not.
///
/// # Errors
/// The disk refused.
pub fn publish(work_dir: &Path, output: &Path) -> io::Result<()> {
    fs::rename(work_dir.join(CONTENT), output)?;
    let parent = output.parent().filter(|path| !path.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Opens or makes a file below `directory`, and the directories that it is in. The components come
/// from the torrent and are plain names; what is on the disk may still be a symbolic link, which is
/// not followed.
fn arriving_file(directory: &OwnedFd, path: &[String]) -> io::Result<File> {
    let (name, parents) = path.split_last().ok_or(io::ErrorKind::InvalidInput)?;
    let mut inner: Option<OwnedFd> = None;
    for parent in parents {
        inner = Some(directory_in(inner.as_ref().unwrap_or(directory), parent)?);
    }
    file_in(inner.as_ref().unwrap_or(directory), name)
}

fn directory_in(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

fn file_in(parent: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::from_raw_mode(0o666))?.into())
}

#[cfg(test)]
mod tests;
