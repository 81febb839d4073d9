//! One layer on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use flotilla_torrents::{Bitfield, ContentId, Digest, Geometry, InfoHash, PieceHash, PieceIndex};
use tempfile::NamedTempFile;
use url::Url;

use super::StoreError;
use super::journal::Journal;
use super::layer_record::{self, LayerRecord, now_millis};
use crate::without_secrets::redacted;

const DATA: &str = "data";
const JOURNAL: &str = "pieces";
/// Pieces that are written and not synced: after a process was killed their bytes are there.
const UNSYNCED: &str = "pieces.unsynced";
/// A layer with no more pieces than this is fetched again sooner than it is kept account of.
const FEW_PIECES: u32 = 4;

/// A layer's data file with its journal. Methods that touch the disk block: call them from
/// a blocking thread.
#[derive(Debug)]
pub struct StoredLayer {
    dir: PathBuf,
    content: ContentId,
    origin: String,
    geometry: Geometry,
    /// Open for reading only once it is sealed: other names of it may be in others' hands.
    data: File,
    inner: Mutex<Inner>,
    in_use: AtomicUsize,
    /// Unix milliseconds; for the least-recently-used order.
    last_used: AtomicU64,
    /// The last use that the disk knows of.
    noted_use: AtomicU64,
    /// When the bytes of a sealed layer were last written; 0 before it is sealed. Whoever else
    /// writes them later has a further name of the file.
    written: AtomicU64,
    /// Locked while a small layer is written whole: once, although several may have it.
    completing: Mutex<()>,
    is_pinned: AtomicBool,
    url: OnceLock<String>,
    /// Whether the record is known to survive a crash. Locked while it is written, so that
    /// no older one replaces it.
    is_settled: Mutex<bool>,
    /// Whether there is a record, at least for as long as the host runs.
    is_noted: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    journal: Journal,
    /// None of a layer of few pieces.
    noted: Option<Journal>,
    held: Bitfield,
    hashes: Vec<Option<PieceHash>>,
    unsynced: Vec<(PieceIndex, PieceHash)>,
    sealed: Option<Digest>,
}

impl Inner {
    /// The piece is in the data file, and not recorded yet.
    fn hold(&mut self, piece: PieceIndex, hash: PieceHash) {
        self.held.set(piece);
        if let Some(slot) = self.hashes.get_mut(at(piece)) {
            *slot = Some(hash);
        }
        self.unsynced.push((piece, hash));
    }
}

impl StoredLayer {
    /// The record is written when there is a piece to record.
    pub(super) fn create(
        dir: PathBuf,
        content: ContentId,
        geometry: Geometry,
        origin: &str,
    ) -> Result<Self, StoreError> {
        fs::create_dir_all(&dir).map_err(|e| StoreError::io(&dir, e))?;
        let record = LayerRecord::new(content, &geometry, origin);
        Self::from_record(dir, record, now_millis())
    }

    /// The same, with `file` for its data.
    pub(super) fn create_from(
        file: NamedTempFile,
        dir: PathBuf,
        content: ContentId,
        geometry: Geometry,
        origin: &str,
    ) -> Result<Self, StoreError> {
        fs::create_dir_all(&dir).map_err(|e| StoreError::io(&dir, e))?;
        let path = dir.join(DATA);
        let moved = file.persist(&path);
        moved.map_err(|e| StoreError::io(&path, e.error))?;
        Self::create(dir, content, geometry, origin)
    }

    /// Opens what an earlier run left.
    pub(super) fn open(dir: PathBuf) -> Result<Self, StoreError> {
        let (record, last_used) = LayerRecord::read(&dir)?;
        Self::from_record(dir, record, last_used)
    }

    fn from_record(dir: PathBuf, record: LayerRecord, last_used: u64) -> Result<Self, StoreError> {
        let geometry = Geometry::new(record.length, record.piece_length).map_err(|e| {
            StoreError::Malformed {
                path: dir.clone(),
                reason: e.to_string(),
            }
        })?;
        let path = dir.join(JOURNAL);
        let (journal, recorded) =
            Journal::open(&path, &geometry).map_err(|e| StoreError::io(&path, e))?;
        let mut held = Bitfield::empty(&geometry);
        let mut hashes = vec![None; usize::try_from(geometry.piece_count()).unwrap_or(0)];
        for (piece, hash) in recorded {
            held.set(piece);
            if let Some(slot) = hashes.get_mut(at(piece)) {
                *slot = Some(hash);
            }
        }
        let path = dir.join(DATA);
        let sealed = record.sealed.filter(|_| held.is_full());
        let data = open_data(&path, geometry.length(), sealed.is_some())?;
        let written = match (&sealed, record.written) {
            (None, _) => 0,
            (Some(_), Some(written)) => written,
            // An earlier version's.
            (Some(_), None) => {
                layer_record::written(&data).map_err(|e| StoreError::io(&path, e))?
            }
        };
        let mut unsynced = Vec::new();
        let mut noted = None;
        if sealed.is_none() && geometry.piece_count() > FEW_PIECES {
            let path = dir.join(UNSYNCED);
            let (journal, pieces) =
                Journal::open(&path, &geometry).map_err(|e| StoreError::io(&path, e))?;
            noted = Some(journal);
            for (piece, hash) in pieces {
                // Nothing says that the bytes reached the disk but the bytes themselves.
                if !held.has(piece) && is_piece(&data, &geometry, piece, hash) {
                    held.set(piece);
                    if let Some(slot) = hashes.get_mut(at(piece)) {
                        *slot = Some(hash);
                    }
                    unsynced.push((piece, hash));
                }
            }
        }
        Ok(Self {
            dir,
            content: record.content,
            origin: record.origin,
            geometry,
            data,
            inner: Mutex::new(Inner {
                journal,
                noted,
                held,
                hashes,
                unsynced,
                sealed,
            }),
            in_use: AtomicUsize::new(0),
            last_used: AtomicU64::new(last_used),
            noted_use: AtomicU64::new(last_used),
            written: AtomicU64::new(written),
            completing: Mutex::new(()),
            is_pinned: AtomicBool::new(record.pinned),
            url: record.url.map_or_else(OnceLock::new, OnceLock::from),
            is_settled: Mutex::new(false),
            is_noted: AtomicBool::new(false),
        })
    }

    /// What the layer is.
    pub fn content(&self) -> &ContentId {
        &self.content
    }

    /// Scheme, host and port of the source that its bytes come from. Its word counts on who
    /// may have them: [`Store::check_origin`](super::Store::check_origin).
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Where the source has content that no digest names, without what may be secret in it.
    pub fn url(&self) -> Option<&str> {
        self.url.get().map(String::as_str)
    }

    /// Says where the source has content that no digest names; the first word counts.
    pub fn note_url(&self, url: &Url) {
        if self.content.digest().is_none() {
            self.url.get_or_init(|| redacted(url));
        }
    }

    /// Its cut into pieces.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The swarm it belongs to.
    pub fn swarm(&self) -> InfoHash {
        InfoHash::of_swarm(&self.content, &self.geometry)
    }

    /// The data file, for hard links.
    pub fn data_path(&self) -> PathBuf {
        self.dir.join(DATA)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The pieces held now.
    pub fn held(&self) -> Bitfield {
        self.lock().held.clone()
    }

    /// Whether `piece` is held.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.lock().held.has(piece)
    }

    /// The recorded hash of a held piece.
    pub fn hash(&self, piece: PieceIndex) -> Option<PieceHash> {
        self.lock().hashes.get(at(piece)).copied().flatten()
    }

    /// SHA-256 of the whole, when it is complete and was compared with the digest.
    pub fn sealed(&self) -> Option<Digest> {
        self.lock().sealed.clone()
    }

    /// Writes a verified piece. It counts as held at once; after the end of this process while its
    /// bytes are found to be there, after that of the host only when [`sync`](Self::sync) has
    /// recorded it.
    ///
    /// # Errors
    /// The data file could not be written.
    pub fn write_piece(&self, piece: PieceIndex, hash: PieceHash, data: &[u8]) -> io::Result<()> {
        self.data
            .write_all_at(data, self.geometry.piece_offset(piece))?;
        let mut inner = self.lock();
        inner.hold(piece, hash);
        if let Some(noted) = &mut inner.noted {
            noted.note(&[(piece, hash)])?;
            self.note_record()?;
        }
        Ok(())
    }

    /// Writes the whole of a small layer, as [`write_piece`](Self::write_piece) does, and seals
    /// it, unless that was done before. Returns whether it was done now.
    pub(super) fn complete(&self, bytes: &[u8], sha256: Digest) -> io::Result<bool> {
        let _once = self
            .completing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self.sealed().is_some() {
            return Ok(false);
        }
        let size = usize::try_from(self.geometry.piece_length()).unwrap_or(usize::MAX);
        for (piece, data) in self.geometry.pieces().zip(bytes.chunks(size)) {
            self.write_piece(piece, PieceHash::of(data), data)?;
        }
        self.seal(sha256);
        Ok(true)
    }

    /// The data file has all pieces, and these are their hashes, which are recorded by
    /// [`sync`](Self::sync).
    pub(super) fn hold_all(&self, pieces: Vec<PieceHash>) {
        let mut inner = self.lock();
        for (piece, hash) in self.geometry.pieces().zip(pieces) {
            inner.hold(piece, hash);
        }
    }

    /// Reads `length` bytes at `offset`; the caller knows that the pieces are held.
    ///
    /// # Errors
    /// The data file could not be read, or somebody else has written it since it was sealed.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let bytes = self.read_unchecked(offset, length)?;
        // In this order: a write that these bytes show has changed the time before.
        if self.is_untouched() {
            Ok(bytes)
        } else {
            Err(io::Error::other("written by somebody else"))
        }
    }

    /// Whether the bytes of a sealed layer are as they were then, by the time of their last
    /// change. Asks the system, not the disk.
    pub fn is_untouched(&self) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        written == 0 || layer_record::written(&self.data).is_ok_and(|now| now == written)
    }

    /// Every byte was compared again: the time of their last change, before that, counts.
    pub(super) fn set_untouched_at(&self, written: u64) {
        if self.written.swap(written, Ordering::Relaxed) != written
            && let Err(error) = self.settle_record(true)
        {
            tracing::warn!(%error, "a layer will be taken for damaged after a restart");
        }
    }

    pub(super) fn written_now(&self) -> io::Result<u64> {
        layer_record::written(&self.data)
    }

    pub(super) fn read_unchecked(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; length];
        self.data.read_exact_at(&mut buffer, offset)?;
        Ok(buffer.into())
    }

    /// Bytes written since the last [`sync`](Self::sync).
    pub fn unsynced_bytes(&self) -> u64 {
        self.lock().unsynced.len() as u64 * u64::from(self.geometry.piece_length())
    }

    /// Makes the written pieces durable: first the data, then their records.
    ///
    /// # Errors
    /// The disk refused.
    pub fn sync(&self) -> io::Result<()> {
        self.record_pieces(|| self.settle_record(false))
    }

    /// `beforehand` is done between the data and the journal's entries, if there are any.
    fn record_pieces(&self, beforehand: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let written = std::mem::take(&mut self.lock().unsynced);
        if written.is_empty() {
            return Ok(());
        }
        let recorded = self
            .data
            .sync_data()
            .and_then(|()| beforehand())
            .and_then(|()| self.lock().journal.append(&written));
        let mut inner = self.lock();
        if recorded.is_err() {
            inner.unsynced.extend(written);
            return recorded;
        }
        let Inner {
            noted, unsynced, ..
        } = &mut *inner;
        noted
            .as_mut()
            .map_or(Ok(()), |noted| noted.replace(unsynced))
    }

    /// Writes the record for the case that the process is killed before the first sync. Called
    /// while the pieces are locked.
    fn note_record(&self) -> io::Result<()> {
        if self.is_noted.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let record = self.dir.join(layer_record::RECORD);
        match File::create_new(record) {
            Ok(mut file) => file.write_all(&serde_json::to_vec(&self.layer_record(None))?),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn layer_record(&self, sealed: Option<Digest>) -> LayerRecord {
        let written = self.written.load(Ordering::Relaxed);
        LayerRecord {
            content: self.content.clone(),
            origin: self.origin.clone(),
            length: self.geometry.length(),
            piece_length: self.geometry.piece_length(),
            url: self.url.get().cloned(),
            written: sealed.is_some().then_some(written).filter(|at| *at > 0),
            sealed,
            pinned: self.is_pinned(),
        }
    }

    /// The whole was compared with its digest: `sha256` is the hash of all bytes. It survives
    /// a crash once [`record`](Self::record) has returned.
    pub(super) fn seal(&self, sha256: Digest) {
        // Without the time nobody notices foreign writes: no reason not to have the layer.
        self.written
            .store(self.written_now().unwrap_or(0), Ordering::Relaxed);
        self.lock().sealed = Some(sha256);
    }

    /// Records everything that is not on the disk yet.
    pub(super) fn record(&self) -> io::Result<()> {
        // The record that counts is the one below.
        self.record_pieces(|| Ok(()))?;
        self.note_written_by_system();
        self.settle_record(true)
    }

    /// Some file systems settle the time of the last change when the data reaches the disk. While
    /// the file has no further name, nobody else has changed it.
    fn note_written_by_system(&self) {
        if self.sealed().is_some()
            && self.data.metadata().is_ok_and(|data| data.nlink() == 1)
            && let Ok(written) = self.written_now()
        {
            self.written.store(written, Ordering::Relaxed);
        }
    }

    /// Writes the record, unless it is known to survive a crash already and not to be `anew`.
    fn settle_record(&self, anew: bool) -> io::Result<()> {
        let mut is_settled = self
            .is_settled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if anew || !*is_settled {
            *is_settled = false;
            let last_used = self.last_used();
            let record = self.layer_record(self.sealed());
            record.write(&self.dir, last_used)?;
            self.is_noted.store(true, Ordering::Relaxed);
            self.noted_use.store(last_used, Ordering::Relaxed);
            *is_settled = true;
        }
        Ok(())
    }

    /// Lets the disk know of the last use, for the order of eviction after a restart.
    pub(super) fn note_use(&self) {
        let last_used = self.last_used();
        if self.noted_use.swap(last_used, Ordering::Relaxed) != last_used {
            // One that has no record, or no directory any more, has nothing to be remembered.
            let _ = layer_record::note_use(&self.dir, last_used);
        }
    }

    /// Keeps the layer from being evicted while the guard lives, and counts as a use of it.
    pub fn lease(self: &Arc<Self>) -> Lease {
        self.last_used.store(now_millis(), Ordering::Relaxed);
        self.leased(true)
    }

    /// As [`lease`](Self::lease), for who looks after the layer without using it.
    pub(crate) fn hold(self: &Arc<Self>) -> Lease {
        self.leased(false)
    }

    fn leased(self: &Arc<Self>, is_use: bool) -> Lease {
        self.in_use.fetch_add(1, Ordering::Relaxed);
        Lease {
            layer: Arc::clone(self),
            is_use,
        }
    }

    /// Whether somebody downloads, reads or uploads it.
    pub fn is_leased(&self) -> bool {
        self.in_use.load(Ordering::Relaxed) > 0
    }

    /// Whether it is never evicted.
    pub fn is_pinned(&self) -> bool {
        self.is_pinned.load(Ordering::Relaxed)
    }

    /// Takes effect at once, and survives a restart when [`record_pin`](Self::record_pin) has
    /// returned.
    pub(super) fn set_pinned(&self, pinned: bool) {
        self.is_pinned.store(pinned, Ordering::Relaxed);
    }

    pub(super) fn record_pin(&self) -> io::Result<()> {
        self.settle_record(true)
    }

    /// When it was last used, Unix milliseconds.
    pub fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Nothing of it is to be given to anybody any more.
    pub(super) fn condemn(&self) {
        let mut inner = self.lock();
        inner.held = Bitfield::empty(&self.geometry);
        inner.sealed = None;
        inner.unsynced.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a layer on the disk: it is being downloaded, read or uploaded.
#[derive(Debug)]
pub struct Lease {
    layer: Arc<StoredLayer>,
    is_use: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.layer.in_use.fetch_sub(1, Ordering::Relaxed);
        if self.is_use {
            self.layer.last_used.store(now_millis(), Ordering::Relaxed);
        }
    }
}

/// Opens the bytes of a layer. Those of a sealed one may have further names outside the store,
/// so they are never written again, nor is a file that has such names for another reason.
fn open_data(path: &Path, length: u64, is_sealed: bool) -> Result<File, StoreError> {
    let damaged = |reason: String| StoreError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let mut options = OpenOptions::new();
    options.read(true);
    if !is_sealed {
        if fs::metadata(path).is_ok_and(|data| data.nlink() > 1) {
            return Err(damaged("it has further names outside the store".to_owned()));
        }
        options.write(true).create(true).truncate(false);
    }
    let data = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("it is gone".to_owned()));
        }
        opened => opened.map_err(|e| StoreError::io(path, e))?,
    };
    if is_sealed {
        let found = data.metadata().map_err(|e| StoreError::io(path, e))?.len();
        if found != length {
            return Err(damaged(format!("it has {found} bytes, not {length}")));
        }
    } else {
        data.set_len(length).map_err(|e| StoreError::io(path, e))?;
    }
    Ok(data)
}

/// Whether the bytes of `piece` are there; reads them.
fn is_piece(data: &File, geometry: &Geometry, piece: PieceIndex, hash: PieceHash) -> bool {
    let size = usize::try_from(geometry.piece_size(piece)).unwrap_or(0);
    let mut bytes = vec![0; size];
    let read = data.read_exact_at(&mut bytes, geometry.piece_offset(piece));
    read.is_ok() && PieceHash::of(&bytes) == hash
}

fn at(piece: PieceIndex) -> usize {
    usize::try_from(piece.get()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_killed_process_count_while_their_bytes_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let geometry = Geometry::new(6 << 18, 1 << 18).unwrap();
        let content = ContentId::url("http://h/f", "1", geometry.length());
        let open = |create: bool| match create {
            true => {
                StoredLayer::create(dir.path().to_owned(), content.clone(), geometry, "http://h")
            }
            false => StoredLayer::open(dir.path().to_owned()),
        };
        let pieces: Vec<_> = geometry.pieces().collect();
        let data = |n: u8| vec![n; 1 << 18];
        let layer = open(true).unwrap();
        for n in [0, 1] {
            layer
                .write_piece(pieces[n], PieceHash::of(&data(n as u8)), &data(n as u8))
                .unwrap();
        }
        // Nothing was synced, and no destructor has anything to do.
        drop(layer);
        let layer = open(false).unwrap();
        assert_eq!(layer.held().count(), 2);
        layer.sync().unwrap();
        assert_eq!(fs::metadata(dir.path().join(UNSYNCED)).unwrap().len(), 0);
        layer
            .write_piece(pieces[2], PieceHash::of(&data(2)), &data(2))
            .unwrap();
        // As if the host had lost its power: the note is there, the bytes are not.
        layer
            .data
            .write_all_at(&[9], geometry.piece_offset(pieces[2]))
            .unwrap();
        drop(layer);
        let layer = open(false).unwrap();
        assert_eq!(layer.held().count(), 2);
        assert!(layer.has(pieces[1]) && !layer.has(pieces[2]));
    }
}
