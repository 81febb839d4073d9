//! The swarm of a layer, as the rest of the host sees it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flotilla_cluster::SignedTicket;
use flotilla_cluster::trace::Waiting;
use flotilla_torrents::{ContentId, Digest, PeerId, PieceHash, PieceIndex, PieceMap};

use crate::engine::disk_room::write_with_room;
use crate::engine::input::Input;
use crate::engine::piece_storage::PieceStorage;
use crate::engine::running_swarm::RunningSwarm;
use crate::piece_data::PieceData;
use crate::store::StoredLayer;

/// No supernode, no peer and no progress for this long: the missing pieces will not come.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(1);
/// There is a supernode or a peer, yet nothing moves although pieces are published: go elsewhere. A full
/// link delays a supernode's answers behind its own pieces, so that it seems to be gone: as long as peers
/// are connected, that is no reason to hurry.
const STALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 255;
/// All published pieces are here and the supernode waits for the source: the source would
/// not answer this node faster, so be patient.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(15);

/// The swarm of a layer on this host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SwarmHandle {
    swarm: RunningSwarm,
    layer: Arc<StoredLayer>,
}

impl RunningSwarm {
    /// The swarm as that of a layer, if it is one.
    pub(crate) fn as_layer(&self) -> Option<SwarmHandle> {
        match &self.0.storage {
            PieceStorage::Layer(layer) => Some(SwarmHandle {
                swarm: self.clone(),
                layer: Arc::clone(layer),
            }),
            PieceStorage::Files(_) => None,
        }
    }
}

/// A layer's swarm is a swarm.
impl Deref for SwarmHandle {
    type Target = RunningSwarm;

    fn deref(&self) -> &RunningSwarm {
        &self.swarm
    }
}

impl SwarmHandle {
    /// What the swarm delivers.
    pub fn content(&self) -> &ContentId {
        self.layer.content()
    }

    /// The layer on the disk.
    pub fn layer(&self) -> &Arc<StoredLayer> {
        &self.layer
    }

    /// The published hashes from piece `first` on.
    pub fn hashes_from(&self, first: u32) -> Vec<PieceHash> {
        self.swarm.0.lock_map().hashes_from(first).to_vec()
    }

    /// A copy of the piece map.
    pub fn piece_map(&self) -> PieceMap {
        self.swarm.0.lock_map().clone()
    }

    /// Tells `request`, if it is traced, of the pieces that arrive while what is returned lives.
    pub(crate) fn trace_pieces(&self, request: tracing::Span) -> Option<Arc<Waiting>> {
        self.swarm.0.traces.wait(request)
    }

    /// Notes bytes that the source delivered in the swarm's place.
    pub fn note_from_registry(&self, bytes: u64) {
        let counters = &self.swarm.0.counters;
        counters.count(|counters| &counters.from_registry, bytes);
    }

    /// Notes why the source has to deliver.
    pub fn note_registry_reason(&self, reason: &str) {
        let reason = reason.chars().take(MAX_REASON).collect();
        self.swarm.0.origins.lock().registry_reason = Some(reason);
    }

    /// Why the source had to deliver, the last time.
    pub(crate) fn registry_reason(&self) -> Option<String> {
        self.swarm.0.origins.lock().registry_reason.clone()
    }

    /// Whether a supernode has heard what was moved here.
    pub(crate) fn is_reported(&self) -> bool {
        self.swarm.0.origins.lock().reported
    }

    pub(crate) fn note_reported(&self) {
        self.swarm.0.origins.lock().reported = true;
    }

    /// The peers that sent most, and how many bytes each.
    pub(crate) fn served_by(&self, most: usize) -> Vec<(PeerId, u64)> {
        let origins = self.swarm.0.origins.lock();
        let mut by_peer: Vec<_> = origins.by_peer.iter().map(|(p, b)| (*p, *b)).collect();
        drop(origins);
        by_peer.sort_unstable_by_key(|(peer, bytes)| (std::cmp::Reverse(*bytes), *peer));
        by_peer.truncate(most);
        by_peer
    }

    /// Returns once all pieces of `range` are published: from then on its bytes depend on peers,
    /// no longer on how far the source is. Never, if they will not be. Cancel safe.
    pub fn published(
        &self,
        range: &std::ops::Range<u64>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let last = range.end.checked_sub(1);
        let last = last.and_then(|last| self.geometry().piece_at(last));
        let mut status = self.watch();
        async move {
            let Some(last) = last else { return };
            let published = status.wait_for(|status| status.complete || status.known > last.get());
            if published.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Adds hashes as published by the supernode; `first` is the index of the first one.
    /// Hashes that are known already have to agree.
    ///
    /// # Errors
    /// The hashes leave a gap, exceed the geometry or contradict what was published before.
    pub async fn publish_hashes(&self, first: u32, hashes: Vec<PieceHash>) -> Result<(), String> {
        let known = {
            let mut map = self.swarm.0.lock_map();
            for (index, hash) in (first..).zip(hashes) {
                let Some(piece) = self.swarm.0.geometry.piece(index) else {
                    return Err(format!("piece {index} is outside the geometry"));
                };
                let stored = self.layer.hash(piece);
                if self.layer.has(piece) && stored != Some(hash) {
                    return Err(format!("piece {index} on the disk has another hash"));
                }
                match map.hash(piece) {
                    Some(known) if known == hash => {}
                    Some(_) => {
                        return Err(format!("piece {index} was published with another hash"));
                    }
                    None if index == map.known() => {
                        map.push(hash).map_err(|e| e.to_string())?;
                    }
                    None => return Err(format!("piece {index} leaves a gap")),
                }
            }
            map.known()
        };
        self.progressed();
        self.send(Input::HashesKnown(known)).await;
        Ok(())
    }

    /// The whole was compared with its digest at the supernode.
    pub async fn sealed(&self, sha256: Digest) {
        self.send(Input::Sealed(sha256)).await;
    }

    /// Shows `ticket` to peers from now on.
    pub fn set_ticket(&self, ticket: SignedTicket) {
        *self.swarm.0.ticket.write() = Some(ticket);
    }

    /// Says whether a supernode follows this swarm.
    pub fn set_supernode_alive(&self, alive: bool) {
        self.swarm.0.supernode_alive.store(alive, Ordering::Relaxed);
    }

    /// Whether a supernode follows this swarm.
    pub fn is_supernode_alive(&self) -> bool {
        self.swarm.0.supernode_alive.load(Ordering::Relaxed)
    }

    /// Whether `other` is this swarm in this run, not only of the same content.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.swarm.0, &other.swarm.0)
    }

    /// Why the missing pieces will not come, if that is so.
    pub fn stalled(&self) -> Option<&'static str> {
        let status = self.status();
        let idle = self.idle_for();
        if status.complete {
            return None;
        }
        if self.is_closed() {
            return Some("the swarm has ended");
        }
        if !self.is_supernode_alive() {
            let patience = if status.peers > 0 {
                STALL_TIMEOUT
            } else {
                ABANDON_TIMEOUT
            };
            return (idle > patience).then_some("no supernode, and no peer brings pieces");
        }
        if status.held >= status.known {
            return (idle > SOURCE_TIMEOUT).then_some("the supernode waits for the source");
        }
        (idle > STALL_TIMEOUT).then_some("no peer brings pieces")
    }

    /// A piece was found damaged on the disk: it has to come again.
    pub(crate) async fn lost(&self, piece: PieceIndex, is_repairable: bool) {
        self.send(Input::PieceLost(piece, is_repairable)).await;
    }

    /// Bytes held from the beginning on without a gap.
    pub fn held_prefix(&self) -> u64 {
        let geometry = self.geometry();
        let held = self.layer.held();
        let missing = geometry
            .piece(0)
            .and_then(|first| held.first_missing_from(first));
        missing.map_or(geometry.length(), |piece| geometry.piece_offset(piece))
    }

    /// The right to publish this swarm's pieces, which one ingest at a time has.
    pub fn begin_ingest(&self) -> Option<OriginSwarm> {
        let taken = self.swarm.0.ingesting.swap(true, Ordering::AcqRel);
        (!taken).then(|| OriginSwarm(self.clone()))
    }

    pub(crate) fn reader_number(&self) -> u64 {
        self.swarm.0.next_reader.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells the picker where a reader is. Lost when the swarm is very busy: it is a hint.
    pub(crate) fn reader_at(&self, reader: u64, next: Option<PieceIndex>) {
        let _ = self.swarm.0.input.try_send(Input::Reader(reader, next));
    }
}

/// The right to publish a swarm's pieces: they come from the source, in order.
#[derive(Debug)]
pub struct OriginSwarm(SwarmHandle);

impl Drop for OriginSwarm {
    fn drop(&mut self) {
        self.0.swarm.0.ingesting.store(false, Ordering::Release);
    }
}

impl OriginSwarm {
    /// The swarm itself.
    pub fn handle(&self) -> &SwarmHandle {
        &self.0
    }

    /// Pieces that are on the disk, hashed and published.
    pub fn published(&self) -> u32 {
        self.0.swarm.0.lock_map().known()
    }

    /// Hashes, stores and publishes the next piece; `data` is exactly that piece.
    ///
    /// # Errors
    /// `data` has another size than the next piece, or the disk refused.
    pub async fn publish(&self, data: PieceData) -> std::io::Result<()> {
        let shared = &self.0.swarm.0;
        let index = shared.lock_map().known();
        let piece = shared
            .geometry
            .piece(index)
            .filter(|piece| usize::try_from(shared.geometry.piece_size(*piece)) == Ok(data.len()));
        let piece = piece.ok_or_else(|| {
            let bytes = data.len();
            std::io::Error::other(format!("{bytes} bytes are not piece {index} of the layer"))
        })?;
        let layer = Arc::clone(self.0.layer());
        let size = data.len() as u64;
        let (swarm, hot) = (shared.swarm, Arc::clone(&shared.hot));
        let room = shared.room.upgrade();
        let hash = tokio::task::spawn_blocking(move || {
            let hash = data.hash();
            // Before it is held: from then on it is asked for.
            hot.insert(swarm, piece, data.clone());
            let write = || layer.write_piece(piece, hash, &data);
            let written = match room {
                Some(room) => write_with_room(room.as_ref(), data.len(), write),
                None => write(),
            };
            written.map(|()| hash)
        })
        .await??;
        shared
            .lock_map()
            .push(hash)
            .map_err(std::io::Error::other)?;
        self.0.note_from_registry(size);
        self.0.progressed();
        self.0.send(Input::Published(piece)).await;
        Ok(())
    }

    /// The whole matches its digest. `sha256` is the SHA-256 of all bytes.
    pub async fn seal(&self, sha256: Digest) {
        self.0.send(Input::Sealed(sha256)).await;
    }

    /// This host cannot bring the content, another one may; nothing is kept.
    pub async fn abort_here(&self, reason: String) {
        self.0.abort_here(reason).await;
    }

    /// The content is wrong from piece `first_wrong` on; nothing is kept.
    pub async fn abort_from(&self, first_wrong: PieceIndex, reason: String) {
        self.0.abort_from(first_wrong, reason).await;
    }

    /// The content is not what its digest says, or cannot be had: nothing is kept.
    pub async fn abort(&self, reason: String) {
        self.0.abort(reason).await;
    }
}
