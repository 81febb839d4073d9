//! Where the pieces of a swarm are kept.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_torrents::{Bitfield, Digest, Geometry, PieceHash, PieceIndex};

use crate::piece_data::PieceData;
use crate::store::{Lease, StoredLayer};
use crate::torrent_files::TorrentStorage;

/// A layer of the store, or the files of a torrent. Cheap to clone. Methods that touch the disk
/// block: call them from a blocking thread.
#[derive(Clone, Debug)]
pub(crate) enum PieceStorage {
    Layer(Arc<StoredLayer>),
    Files(Arc<TorrentStorage>),
}

impl PieceStorage {
    pub(crate) fn geometry(&self) -> Geometry {
        match self {
            Self::Layer(layer) => layer.geometry(),
            Self::Files(files) => files.geometry(),
        }
    }

    /// The pieces held now.
    pub(crate) fn held(&self) -> Bitfield {
        match self {
            Self::Layer(layer) => layer.held(),
            Self::Files(files) => files.held(),
        }
    }

    /// Whether `piece` is held.
    pub(crate) fn has(&self, piece: PieceIndex) -> bool {
        match self {
            Self::Layer(layer) => layer.has(piece),
            Self::Files(files) => files.has(piece),
        }
    }

    /// The pieces that are to be held.
    pub(crate) fn wanted(&self) -> Bitfield {
        match self {
            Self::Layer(layer) => Bitfield::full(&layer.geometry()),
            Self::Files(files) => files.wanted().clone(),
        }
    }

    /// SHA-256 of the whole, when it was compared with a digest; torrents have none.
    pub(crate) fn sealed(&self) -> Option<Digest> {
        match self {
            Self::Layer(layer) => layer.sealed(),
            Self::Files(_) => None,
        }
    }

    /// Whether everything wanted is here and nothing is left to compare it with.
    pub(crate) fn is_complete(&self) -> bool {
        match self {
            Self::Layer(layer) => layer.held().is_full() && layer.sealed().is_some(),
            Self::Files(files) => files.is_complete(),
        }
    }

    /// Keeps what is here from being evicted; a torrent's files are never evicted.
    pub(crate) fn lease(&self) -> Option<Lease> {
        match self {
            Self::Layer(layer) => Some(layer.lease()),
            Self::Files(_) => None,
        }
    }

    /// Writes a verified piece.
    pub(crate) fn write_piece(
        &self,
        piece: PieceIndex,
        hash: PieceHash,
        data: &PieceData,
    ) -> io::Result<()> {
        match self {
            Self::Layer(layer) => layer.write_piece(piece, hash, data),
            Self::Files(files) => files.write_piece(piece, data),
        }
    }

    /// Reads `length` bytes at `offset` of the whole.
    pub(crate) fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        match self {
            Self::Layer(layer) => layer.read(offset, length),
            Self::Files(files) => files.read(offset, length),
        }
    }

    /// Bytes written since the last [`sync`](Self::sync).
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        match self {
            Self::Layer(layer) => layer.unsynced_bytes(),
            Self::Files(files) => files.unsynced_bytes(),
        }
    }

    /// Makes the written pieces durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match self {
            Self::Layer(layer) => layer.sync(),
            Self::Files(files) => files.sync(),
        }
    }
}
