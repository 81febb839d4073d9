//! Reading: each piece is compared with its hash when it comes from the disk, before a byte of it leaves
//! the host. A disk may give back other bytes than it was given, and not say so.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use flotilla_torrents::{PieceHash, PieceIndex};

use super::{StoredLayer, at};
use crate::positioned;
use crate::store::layer_record;

/// The disk does not have the piece that was written. It does not count as held any more.
#[derive(Debug, thiserror::Error)]
#[error("piece {piece} on the disk is damaged: {reason}")]
pub struct DamagedPiece {
    /// Which one.
    pub piece: PieceIndex,
    /// Whether the piece can be written again. Otherwise the layer's file is in other hands too.
    pub is_repairable: bool,
    reason: String,
}

impl DamagedPiece {
    /// The damage that a read has found, if that is why it failed.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl StoredLayer {
    /// Reads `length` bytes at `offset`; the caller knows that the pieces are held. Every piece that
    /// is read from the disk is compared with its hash.
    ///
    /// # Errors
    /// A [`DamagedPiece`], which is not held any more; or another process has written the data file
    /// since it was sealed.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let bytes = self.read_pieces(offset, length)?;
        // In this order: a write that these bytes show has changed the time before.
        if self.is_untouched() {
            Ok(bytes)
        } else {
            Err(io::Error::other("changed by another process"))
        }
    }

    fn read_pieces(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let end = offset.saturating_add(length as u64);
        let mut part = self.read_part(offset, end)?;
        if part.len() == length {
            return Ok(part);
        }
        let mut whole = BytesMut::with_capacity(length);
        while !part.is_empty() {
            whole.extend_from_slice(&part);
            let position = offset + whole.len() as u64;
            if position >= end {
                return Ok(whole.freeze());
            }
            part = self.read_part(position, end)?;
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Bytes from `offset` on, up to `end` or the end of the piece.
    fn read_part(&self, offset: u64, end: u64) -> io::Result<Bytes> {
        if offset >= end {
            return Ok(Bytes::new());
        }
        let piece = self.geometry.piece_at(offset);
        let piece = piece.ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes = self.checked_piece(piece)?;
        let begin = self.geometry.piece_offset(piece);
        let at = |offset: u64| {
            usize::try_from(offset - begin).map_or(bytes.len(), |at| at.min(bytes.len()))
        };
        Ok(bytes.slice(at(offset)..at(end)))
    }

    /// The whole piece, compared with its hash: now, or when it was read a moment ago.
    fn checked_piece(&self, piece: PieceIndex) -> io::Result<Bytes> {
        let checked = self.checked_pieces.get();
        if let Some(bytes) = checked.and_then(|checked| checked.get(self.number, piece)) {
            return Ok(bytes);
        }
        let Some(expected) = self.hash(piece) else {
            return Err(io::Error::other(format!("piece {piece} is not here")));
        };
        let size = usize::try_from(self.geometry.piece_size(piece)).map_err(io::Error::other)?;
        let read = self.read_unchecked(self.geometry.piece_offset(piece), size);
        let reason = match read {
            Ok(bytes) if PieceHash::of(&bytes) == expected => {
                if let Some(checked) = checked {
                    checked.put(self.number, piece, bytes.clone());
                }
                return Ok(bytes);
            }
            Ok(_) => "other bytes than were written".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::error!(content = %self.content, %piece, reason, "damaged piece found, fetching it again");
        let is_repairable = self.lose(piece)?;
        Err(io::Error::other(DamagedPiece {
            piece,
            is_repairable,
            reason,
        }))
    }

    /// The piece is not held any more, and the layer not complete. Returns whether the piece can be
    /// written again: not if the file has further names, which are in others' hands.
    fn lose(&self, piece: PieceIndex) -> io::Result<bool> {
        let is_repairable = self.open_for_repair();
        let mut journal = self.journal.lock();
        let recorded: Vec<_> = {
            let mut inner = self.lock();
            inner.held.clear(piece);
            if let Some(hash) = inner.hashes.get_mut(at(piece)) {
                *hash = None;
            }
            inner.sealed = None;
            inner.unsynced.retain(|(unsynced, _)| *unsynced != piece);
            let is_recorded = |held: &PieceIndex| !inner.unsynced.iter().any(|(p, _)| p == held);
            let held = inner.held.iter_set().filter(is_recorded);
            held.filter_map(|held| Some((held, *inner.hashes.get(at(held))?.as_ref()?)))
                .collect()
        };
        self.sealed_mtime.store(0, Ordering::Relaxed);
        // Should the disk refuse, a later run reads the piece again and finds the damage again.
        let noted = journal.replace(&recorded);
        drop(journal);
        if let Err(error) = noted.and_then(|()| self.write_record(true)) {
            tracing::warn!(%error, content = %self.content, "damage not recorded");
        }
        Ok(is_repairable)
    }

    /// The bytes of a layer that an earlier run sealed are open for reading only.
    fn open_for_repair(&self) -> bool {
        let names = self.data.metadata().map(|data| data.nlink());
        if !names.is_ok_and(|names| names == 1) {
            return false;
        }
        if self.is_writable || self.repaired.get().is_some() {
            return true;
        }
        let opened = std::fs::File::options().write(true).open(self.data_path());
        opened.is_ok_and(|file| {
            self.repaired.get_or_init(|| file);
            true
        })
    }

    /// The bytes as they are on the disk, for who compares them itself.
    pub(in crate::store) fn read_unchecked(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        positioned::read_exact(&self.data, offset, length)
    }

    /// Whether the bytes of a sealed layer are as they were then, by the time of their last
    /// change. Asks the system, not the disk.
    pub fn is_untouched(&self) -> bool {
        let written = self.sealed_mtime.load(Ordering::Relaxed);
        written == 0 || layer_record::mtime_nanos(&self.data).is_ok_and(|now| now == written)
    }
}
