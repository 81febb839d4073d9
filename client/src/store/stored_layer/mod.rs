//! One layer on the disk.
//!
//! **Files.** `data` has the bytes. `pieces` is the journal of pieces whose bytes are synced: it survives
//! a crash of the host. `pieces.unsynced` lists what was written since: it survives the end of the
//! process, and its pieces count if their bytes are found to match. `layer.json` is the record, whose
//! time of modification is the last use.
//!
//! **Lifecycle.** A layer is created without a record; the first piece or the first sync writes one.
//! [`StoredLayer::sync`] makes pieces durable: first the data, then the record, then the journal. Once the
//! whole was compared with its digest the layer is sealed, and its bytes are never written again: a later
//! time of modification means that another process wrote them. A layer that leaves the store is marked
//! as removed first, and writes nothing into its directory any more. Readers keep their open file.
//!
//! **Locks.** `completing` is taken before all others. Then `journal`, which is held while the disk flushes;
//! then `unsynced_journal` or `record_is_durable`; `inner` is last, and nothing touches the disk while it is
//! held, because reactor threads ask for it. The store's lock on its inventory is taken before any of them.

mod checked_reads;
mod opening;
mod recording;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use flotilla_cluster::redacted;
use flotilla_torrents::{Bitfield, ContentId, Digest, Geometry, InfoHash, PieceHash, PieceIndex};
use parking_lot::{Mutex, MutexGuard};
use url::Url;

pub use self::checked_reads::DamagedPiece;
use super::checked_pieces::CheckedPieces;
use super::journal::Journal;
use super::layer_record::{self, now_millis};
use crate::piece_data::PieceData;
use crate::positioned;

const DATA: &str = "data";
const JOURNAL: &str = "pieces";
/// Pieces that are written and not synced: after a process was killed their bytes are there.
const UNSYNCED: &str = "pieces.unsynced";
/// A layer with no more pieces than this is fetched again after a crash: that costs less than a journal.
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
    is_writable: bool,
    /// The data file of a sealed layer once more, to write pieces that were found damaged.
    repaired: OnceLock<File>,
    /// Of this layer among all of this process.
    number: u64,
    /// Set by the store that it is in.
    checked_pieces: OnceLock<Arc<CheckedPieces>>,
    inner: Mutex<Inner>,
    /// Locked while the disk flushes it: callers that ask for pieces do not wait for that.
    journal: Mutex<Journal>,
    /// None of a layer of few pieces.
    unsynced_journal: Mutex<Option<Journal>>,
    in_use: AtomicUsize,
    /// Unix milliseconds; for the least-recently-used order.
    last_used: AtomicU64,
    /// The last use that the disk knows of.
    persisted_last_used: AtomicU64,
    /// When the bytes of a sealed layer were last written; 0 before it is sealed. A process
    /// that writes them later does so by another name of the file.
    sealed_mtime: AtomicU64,
    /// Locked while a small layer is written whole: once, although several may have it.
    completing: Mutex<()>,
    is_pinned: AtomicBool,
    /// Its directory belongs to another layer now, or to none.
    is_removed: AtomicBool,
    url: OnceLock<String>,
    /// Whether the record is known to survive a crash. Locked while it is written, so that
    /// no older one replaces it.
    record_is_durable: Mutex<bool>,
    /// Whether there is a record, at least for as long as the host runs.
    record_exists: AtomicBool,
}

#[derive(Debug)]
struct Inner {
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

    /// From now on pieces that were read lately are in memory.
    pub(super) fn share_checked(&self, pieces: &Arc<CheckedPieces>) {
        self.checked_pieces.get_or_init(|| Arc::clone(pieces));
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
    pub fn write_piece(
        &self,
        piece: PieceIndex,
        hash: PieceHash,
        data: &PieceData,
    ) -> io::Result<()> {
        let file = self.repaired.get().unwrap_or(&self.data);
        positioned::write_all(file, data, self.geometry.piece_offset(piece))?;
        self.lock().hold(piece, hash);
        if let Some(journal) = self.unsynced_journal().as_mut() {
            journal.note(&[(piece, hash)])?;
            self.write_first_record()?;
        }
        Ok(())
    }

    /// Writes the whole of a small layer, as [`write_piece`](Self::write_piece) does, and seals
    /// it, unless that was done before. Returns whether it was done now.
    pub(super) fn complete(&self, bytes: &[u8], sha256: Digest) -> io::Result<bool> {
        let _once = self.completing.lock();
        if self.sealed().is_some() {
            return Ok(false);
        }
        let size = usize::try_from(self.geometry.piece_length()).unwrap_or(usize::MAX);
        for (piece, data) in self.geometry.pieces().zip(bytes.chunks(size)) {
            let data = PieceData::from(bytes::Bytes::copy_from_slice(data));
            self.write_piece(piece, data.hash(), &data)?;
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

    /// Every byte was compared again: the time of their last change, before that, counts.
    pub(super) fn set_sealed_mtime(&self, written: u64) {
        if self.sealed_mtime.swap(written, Ordering::Relaxed) != written
            && let Err(error) = self.write_record(true)
        {
            tracing::warn!(%error, "time of a layer not recorded, a restart takes it for damaged");
        }
    }

    pub(super) fn mtime(&self) -> io::Result<u64> {
        layer_record::mtime_nanos(&self.data)
    }

    /// The whole was compared with its digest: `sha256` is the hash of all bytes. It survives
    /// a crash once [`record`](Self::record) has returned.
    pub(super) fn seal(&self, sha256: Digest) {
        // Without the time foreign writes go unnoticed: no reason not to have the layer.
        self.sealed_mtime
            .store(self.mtime().unwrap_or(0), Ordering::Relaxed);
        self.lock().sealed = Some(sha256);
    }

    /// Keeps the layer from being evicted while the guard lives, and counts as a use of it.
    pub fn lease(self: &Arc<Self>) -> Lease {
        self.last_used.store(now_millis(), Ordering::Relaxed);
        self.leased(true)
    }

    /// As [`lease`](Self::lease), without counting as a use: for audits.
    pub(crate) fn lease_silently(self: &Arc<Self>) -> Lease {
        self.leased(false)
    }

    fn leased(self: &Arc<Self>, is_use: bool) -> Lease {
        self.in_use.fetch_add(1, Ordering::Relaxed);
        Lease {
            layer: Arc::clone(self),
            is_use,
        }
    }

    /// Whether it is downloaded, read or uploaded.
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

    /// From now on nothing is written into its directory any more.
    pub(super) fn mark_removed(&self) {
        self.is_removed.store(true, Ordering::Relaxed);
    }

    /// When it was last used, Unix milliseconds.
    pub fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Nothing of it is to be given to anybody any more.
    pub(super) fn quarantine(&self) {
        let mut inner = self.lock();
        inner.held = Bitfield::empty(&self.geometry);
        inner.sealed = None;
        inner.unsynced.clear();
    }

    /// Reactor threads ask: nothing that touches the disk is done with it.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    fn unsynced_journal(&self) -> MutexGuard<'_, Option<Journal>> {
        self.unsynced_journal.lock()
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
        if self.layer.in_use.fetch_sub(1, Ordering::Relaxed) == 1
            && let Some(checked) = self.layer.checked_pieces.get()
        {
            checked.forget_layer(self.layer.number);
        }
        if self.is_use {
            self.layer.last_used.store(now_millis(), Ordering::Relaxed);
        }
    }
}

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

fn at(piece: PieceIndex) -> usize {
    usize::try_from(piece.get()).unwrap_or(usize::MAX)
}
