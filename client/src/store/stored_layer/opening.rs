//! How a layer comes into being, and how what an earlier run left of it is found again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use flotilla_torrents::{Bitfield, ContentId, Geometry, PieceHash, PieceIndex};
use parking_lot::Mutex;
use tempfile::NamedTempFile;

use super::{DATA, FEW_PIECES, Inner, JOURNAL, NEXT_NUMBER, StoredLayer, UNSYNCED, at};
use crate::store::StoreError;
use crate::store::journal::Journal;
use crate::store::layer_record::{self, LayerRecord, now_millis};

impl StoredLayer {
    /// The record is written when there is a piece to record.
    pub(in crate::store) fn create(
        dir: PathBuf,
        content: ContentId,
        geometry: Geometry,
        origin: &str,
    ) -> Result<Self, StoreError> {
        fs::create_dir_all(&dir).map_err(|e| StoreError::io(&dir, e))?;
        // Nothing that an earlier layer may have left says anything of this one.
        for stale in [layer_record::RECORD, JOURNAL, UNSYNCED] {
            let _ = fs::remove_file(dir.join(stale));
        }
        let record = LayerRecord::new(content, &geometry, origin);
        let layer = Self::from_record(dir, record, now_millis())?;
        let files = [DATA, JOURNAL, UNSYNCED];
        let given = layer_record::give_dir_to_owner(&layer.dir, &files);
        given.map_err(|e| StoreError::io(&layer.dir, e))?;
        Ok(layer)
    }

    /// As [`create`](Self::create), with `file` for its data.
    pub(in crate::store) fn create_from(
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
    pub(in crate::store) fn open(dir: PathBuf) -> Result<Self, StoreError> {
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
        let is_empty = held.count() == 0;
        let data = open_data(&path, geometry.length(), sealed.is_some(), is_empty)?;
        let is_writable = sealed.is_none();
        let sealed_mtime = match (&sealed, record.written) {
            (None, _) => 0,
            (Some(_), Some(written)) => written,
            // It could not be read when the layer was sealed.
            (Some(_), None) => {
                layer_record::mtime_nanos(&data).map_err(|e| StoreError::io(&path, e))?
            }
        };
        let mut unsynced = Vec::new();
        let mut unsynced_journal = None;
        if sealed.is_none() && geometry.piece_count() > FEW_PIECES {
            let path = dir.join(UNSYNCED);
            let (journal, pieces) =
                Journal::open(&path, &geometry).map_err(|e| StoreError::io(&path, e))?;
            unsynced_journal = Some(journal);
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
            is_writable,
            repaired: OnceLock::new(),
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            checked_pieces: OnceLock::new(),
            inner: Mutex::new(Inner {
                held,
                hashes,
                unsynced,
                sealed,
            }),
            journal: Mutex::new(journal),
            unsynced_journal: Mutex::new(unsynced_journal),
            in_use: AtomicUsize::new(0),
            last_used: AtomicU64::new(last_used),
            persisted_last_used: AtomicU64::new(last_used),
            sealed_mtime: AtomicU64::new(sealed_mtime),
            completing: Mutex::new(()),
            is_pinned: AtomicBool::new(record.pinned),
            is_removed: AtomicBool::new(false),
            url: record.url.map_or_else(OnceLock::new, OnceLock::from),
            record_is_durable: Mutex::new(false),
            record_exists: AtomicBool::new(false),
        })
    }
}

/// Opens the bytes of a layer. Those of a sealed one may have further names outside the store,
/// so they are never written again, nor is a file that has such names for another reason. Only where
/// no piece is on record (`is_empty`) a file is made or made longer: bytes of pieces are not made up.
fn open_data(
    path: &Path,
    length: u64,
    is_sealed: bool,
    is_empty: bool,
) -> Result<File, StoreError> {
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
        options.write(true).create(is_empty).truncate(false);
    }
    let data = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("it is gone".to_owned()));
        }
        opened => opened.map_err(|e| StoreError::io(path, e))?,
    };
    if is_sealed || !is_empty {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::piece_data::PieceData;

    #[test]
    fn pieces_on_record_whose_bytes_are_gone_are_not_made_up() {
        for cut in [None, Some(3 << 18)] {
            let dir = tempfile::tempdir().unwrap();
            let geometry = Geometry::new(6 << 18, 1 << 18).unwrap();
            let content = ContentId::url("http://h/f", "1", geometry.length());
            let path = dir.path().to_owned();
            let layer = StoredLayer::create(path.clone(), content, geometry, "http://h").unwrap();
            let (piece, bytes) = (geometry.piece(5).unwrap(), vec![1; 1 << 18]);
            let hash = PieceHash::of(&bytes);
            layer
                .write_piece(piece, hash, &Bytes::from(bytes).into())
                .unwrap();
            layer.sync().unwrap();
            drop(layer);
            // As an eviction that was killed midway leaves it, or a hand.
            let data = path.join(DATA);
            match cut {
                None => fs::remove_file(data).unwrap(),
                Some(length) => File::options()
                    .write(true)
                    .open(data)
                    .unwrap()
                    .set_len(length)
                    .unwrap(),
            }
            let found = StoredLayer::open(path.clone());
            assert!(
                matches!(found, Err(StoreError::Damaged { .. })),
                "{found:?}"
            );
            let content = ContentId::url("http://h/f", "1", geometry.length());
            let anew = StoredLayer::create(path, content, geometry, "http://h").unwrap();
            assert!(anew.held().is_empty());
        }
    }

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
        let data = |n: u8| PieceData::from(Bytes::from(vec![n; 1 << 18]));
        let layer = open(true).unwrap();
        for n in [0, 1] {
            layer
                .write_piece(pieces[n], data(n as u8).hash(), &data(n as u8))
                .unwrap();
        }
        // Nothing was synced, and no destructor has anything to do.
        drop(layer);
        let layer = open(false).unwrap();
        assert_eq!(layer.held().count(), 2);
        layer.sync().unwrap();
        assert_eq!(fs::metadata(dir.path().join(UNSYNCED)).unwrap().len(), 0);
        layer
            .write_piece(pieces[2], data(2).hash(), &data(2))
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
