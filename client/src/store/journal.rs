//! Which pieces of a layer are on the disk: an append-only file of fixed-size records.
//!
//! A record is written after the piece's data was synced (see `StoredLayer::sync`), so a
//! record that survives a crash speaks of data that survived it too.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use flotilla_torrents::{Geometry, PieceHash, PieceIndex};

/// Piece index (4 bytes, big endian), SHA-1 of the piece (20 bytes).
const RECORD: usize = 24;

/// The open journal of one layer or torrent.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
}

impl Journal {
    /// Opens or creates the journal and reads what it records. A torn record at the end, or
    /// one outside the geometry, ends the reading: what follows is fetched again.
    pub(crate) fn open(
        path: &Path,
        geometry: &Geometry,
    ) -> io::Result<(Self, Vec<(PieceIndex, PieceHash)>)> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        let cap = u64::from(geometry.piece_count()).saturating_mul(2 * RECORD as u64);
        let mut bytes = Vec::new();
        (&mut file).take(cap).read_to_end(&mut bytes)?;
        let mut pieces = Vec::new();
        for record in bytes.chunks_exact(RECORD) {
            let Some((index, hash)) = parse(record) else {
                break;
            };
            let Some(piece) = geometry.piece(index) else {
                break;
            };
            pieces.push((piece, hash));
        }
        file.set_len((pieces.len() * RECORD) as u64)?;
        Ok((Self { file }, pieces))
    }

    /// Appends records and syncs them.
    pub(crate) fn append(&mut self, pieces: &[(PieceIndex, PieceHash)]) -> io::Result<()> {
        self.note(pieces)?;
        self.file.sync_data()
    }

    /// Appends records that survive the end of the process, though not that of the host.
    pub(super) fn note(&mut self, pieces: &[(PieceIndex, PieceHash)]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(pieces.len() * RECORD);
        for (piece, hash) in pieces {
            bytes.extend_from_slice(&piece.get().to_be_bytes());
            bytes.extend_from_slice(hash.as_bytes());
        }
        self.file.write_all(&bytes)
    }

    /// Holds `pieces` and nothing else from now on; not synced.
    pub(super) fn replace(&mut self, pieces: &[(PieceIndex, PieceHash)]) -> io::Result<()> {
        self.file.set_len(0)?;
        self.note(pieces)
    }
}

fn parse(record: &[u8]) -> Option<(u32, PieceHash)> {
    let (index, hash) = record.split_first_chunk::<4>()?;
    Some((
        u32::from_be_bytes(*index),
        PieceHash::from_bytes(hash.try_into().ok()?),
    ))
}
