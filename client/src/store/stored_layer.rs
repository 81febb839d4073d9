//! One layer on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flotilla_torrents::{Bitfield, ContentId, Digest, Geometry, InfoHash, PieceHash, PieceIndex};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::StoreError;
use super::journal::Journal;

const DATA: &str = "data";
const JOURNAL: &str = "pieces";
/// Pieces that are written and not synced: after a process was killed their bytes are there.
const UNSYNCED: &str = "pieces.unsynced";
/// A layer with no more pieces than this is fetched again sooner than it is kept account of.
const FEW_PIECES: u32 = 4;
pub(super) const RECORD: &str = "layer.json";

/// What `layer.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct LayerRecord {
    content: ContentId,
    length: u64,
    piece_length: u32,
    /// Scheme, host and port of the source that the bytes come from.
    origin: String,
    /// SHA-256 of the whole, once it was compared with the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<Digest>,
}

/// A layer's data file with its journal. Methods that touch the disk block: call them from
/// a blocking thread.
#[derive(Debug)]
pub struct StoredLayer {
    dir: PathBuf,
    content: ContentId,
    origin: String,
    geometry: Geometry,
    data: File,
    inner: Mutex<Inner>,
    in_use: AtomicUsize,
    /// Unix milliseconds; for the least-recently-used order.
    last_used: AtomicU64,
    /// Whether the record is known to survive a crash.
    is_settled: AtomicBool,
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
        let record = LayerRecord {
            content,
            origin: origin.to_owned(),
            length: geometry.length(),
            piece_length: geometry.piece_length(),
            sealed: None,
        };
        Self::from_record(dir, record)
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
        let path = dir.join(RECORD);
        let text = fs::read(&path).map_err(|e| StoreError::io(&path, e))?;
        let record = serde_json::from_slice(&text).map_err(|e| StoreError::Malformed {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        Self::from_record(dir, record)
    }

    fn from_record(dir: PathBuf, record: LayerRecord) -> Result<Self, StoreError> {
        let geometry = Geometry::new(record.length, record.piece_length).map_err(|e| {
            StoreError::Malformed {
                path: dir.clone(),
                reason: e.to_string(),
            }
        })?;
        let path = dir.join(DATA);
        let data = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| StoreError::io(&path, e))?;
        data.set_len(geometry.length())
            .map_err(|e| StoreError::io(&path, e))?;
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
        let mut unsynced = Vec::new();
        let mut noted = None;
        if geometry.piece_count() > FEW_PIECES {
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
        let sealed = record.sealed.filter(|_| held.is_full());
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
            last_used: AtomicU64::new(now_millis()),
            is_settled: AtomicBool::new(false),
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

    /// Writes the whole of a small layer, as [`write_piece`](Self::write_piece) does.
    ///
    /// # Errors
    /// The data file could not be written.
    pub fn write_whole(&self, bytes: &[u8]) -> io::Result<()> {
        let size = usize::try_from(self.geometry.piece_length()).unwrap_or(usize::MAX);
        for (piece, data) in self.geometry.pieces().zip(bytes.chunks(size)) {
            self.write_piece(piece, PieceHash::of(data), data)?;
        }
        Ok(())
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
    /// The data file could not be read.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
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
        self.record_pieces(|| self.settle_record())
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

    /// Writes the record for the case that the process is killed before the first sync.
    fn note_record(&self) -> io::Result<()> {
        let is_there =
            self.is_settled.load(Ordering::Relaxed) || self.is_noted.swap(true, Ordering::Relaxed);
        let path = self.dir.join(RECORD);
        if is_there || path.exists() {
            return Ok(());
        }
        fs::write(path, serde_json::to_vec(&self.layer_record(None))?)
    }

    fn layer_record(&self, sealed: Option<Digest>) -> LayerRecord {
        LayerRecord {
            content: self.content.clone(),
            origin: self.origin.clone(),
            length: self.geometry.length(),
            piece_length: self.geometry.piece_length(),
            sealed,
        }
    }

    /// The whole was compared with its digest: `sha256` is the hash of all bytes. It survives
    /// a crash once [`record`](Self::record) has returned.
    pub(super) fn seal(&self, sha256: Digest) {
        self.lock().sealed = Some(sha256);
    }

    /// Records everything that is not on the disk yet.
    pub(super) fn record(&self) -> io::Result<()> {
        // The record that counts is the one below.
        self.record_pieces(|| Ok(()))?;
        self.is_settled.store(false, Ordering::Relaxed);
        self.settle_record()
    }

    /// Writes the record, unless it is known to survive a crash already.
    fn settle_record(&self) -> io::Result<()> {
        if !self.is_settled.load(Ordering::Relaxed) {
            write_record(&self.dir, &self.layer_record(self.sealed()))?;
            self.is_settled.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Keeps the layer from being evicted while the guard lives.
    pub fn lease(self: &Arc<Self>) -> Lease {
        self.in_use.fetch_add(1, Ordering::Relaxed);
        self.last_used.store(now_millis(), Ordering::Relaxed);
        Lease(Arc::clone(self))
    }

    pub(super) fn is_leased(&self) -> bool {
        self.in_use.load(Ordering::Relaxed) > 0
    }

    pub(super) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a layer on the disk: it is being downloaded, read or uploaded.
#[derive(Debug)]
pub struct Lease(Arc<StoredLayer>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Ordering::Relaxed);
        self.0.last_used.store(now_millis(), Ordering::Relaxed);
    }
}

/// Replaces the record. A crash before the end leaves the old one or none; the store clears
/// away a layer without record.
fn write_record(dir: &Path, record: &LayerRecord) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(dir)?;
    // In one piece: to_writer makes a system call of each token.
    file.write_all(&serde_json::to_vec(record)?)?;
    file.as_file().sync_data()?;
    file.persist(dir.join(RECORD))?;
    File::open(dir)?.sync_all()
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

fn now_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
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
