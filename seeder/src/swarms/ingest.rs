//! Cut-through: the source's bytes become pieces, and pieces are published, while they
//! arrive.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use flotilla_client::{OriginSwarm, PieceData};
use flotilla_cluster::trace;
use flotilla_registry::login::RegistryLogins;
use flotilla_registry::origin_of;
use flotilla_registry::pace::Pace;
use flotilla_registry::source::{Source, SourceBody, SourceError};
use flotilla_torrents::{Digest, DigestAlgorithm, DigestHasher};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use url::Url;

use super::ingest_error::{IngestError, is_passing};
use super::piece_source::PieceSource;

/// Pauses between attempts after the connection to the source broke.
const BACKOFF: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// Pieces that are read and wait to be hashed: enough for the source not to wait for a hash.
const PIECES_READ_AHEAD: usize = 2;
/// Callers whose credentials are kept for the case that the connection breaks.
const MAX_CALLERS: usize = 8;
/// Bytes read back at a time when an earlier run's pieces are hashed again.
const READ_BACK: usize = 1024 * 1024;
/// Bytes whose hash takes less time than handing them to another thread: some 20 µs.
const HASHED_AT_ONCE: usize = 32 * 1024;

/// One content on its way from the source into a swarm.
pub(crate) struct Ingest {
    source: Source,
    /// Those that the source let in, the last one first: tokens expire. Each with the URL he
    /// asked for, which may name another repository.
    callers: Mutex<VecDeque<Caller>>,
    pub(super) origin: OriginSwarm,
    /// Of the first answer: content without a digest has to stay the same.
    validator: String,
    /// For when the source refuses all callers.
    logins: RegistryLogins,
    pace: Pace,
}

#[derive(Clone)]
struct Caller {
    url: Url,
    headers: Vec<(String, String)>,
}

/// The hashes of everything read so far: SHA-256, and the digest's own when it is another.
#[derive(Clone)]
struct WholeHash {
    sha256: DigestHasher,
    other: Option<DigestHasher>,
}

impl WholeHash {
    fn new(expected: Option<&Digest>) -> Self {
        let other = expected
            .map(Digest::algorithm)
            .filter(|own| *own != DigestAlgorithm::Sha256);
        Self {
            sha256: DigestHasher::new(DigestAlgorithm::Sha256),
            other: other.map(DigestHasher::new),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(other) = &mut self.other {
            other.update(bytes);
        }
    }

    fn update_all(&mut self, piece: &PieceData) {
        for part in piece.parts() {
            self.update(part);
        }
    }

    /// The SHA-256, if the whole is what it has to be.
    fn finish(self, expected: Option<Digest>) -> Result<Digest, IngestError> {
        let sha256 = self.sha256.finish();
        let found = self
            .other
            .map_or_else(|| sha256.clone(), DigestHasher::finish);
        match expected {
            Some(expected) if expected != found => Err(IngestError::Digest {
                expected: Box::new(expected),
                found: Box::new(found),
            }),
            _ => Ok(sha256),
        }
    }
}

impl Ingest {
    pub(crate) fn new(
        source: Source,
        logins: RegistryLogins,
        origin: OriginSwarm,
        validator: String,
    ) -> Self {
        Self {
            source,
            callers: Mutex::default(),
            pace: Pace::of_length(origin.handle().geometry().length()),
            origin,
            validator,
            logins,
        }
    }

    /// Notes a caller that the source let in.
    pub(crate) fn add_caller(&self, url: &Url, headers: &[(String, String)]) {
        let mut callers = self.callers.lock();
        callers.retain(|caller| caller.url != *url || caller.headers != headers);
        callers.push_front(Caller {
            url: url.clone(),
            headers: headers.to_vec(),
        });
        callers.truncate(MAX_CALLERS);
    }

    /// Whether it reads from the source of `url`: another one's credentials are not for it.
    pub(crate) fn is_from(&self, url: &Url) -> bool {
        let callers = self.callers.lock();
        callers
            .front()
            .is_some_and(|caller| origin_of(&caller.url) == origin_of(url))
    }

    /// Reads the source to its end, `body` first. Seals the swarm, or declares it void.
    pub(crate) async fn run(&self, body: SourceBody) {
        let content = self.origin.handle().content().clone();
        match self.read_whole(body).await {
            Ok(sha256) => {
                self.origin.seal(sha256).await;
                trace::current().record("flotilla.ingest.sealed", true);
                tracing::info!(%content, "sealed");
            }
            Err(error) => {
                tracing::warn!(%content, %error, "ingest failed");
                let span = trace::current();
                span.record("flotilla.ingest.sealed", false);
                span.record("otel.status_code", "ERROR");
                let reason = error.to_string();
                match error {
                    IngestError::Digest { expected, .. } => {
                        self.read_again(&expected, reason).await;
                    }
                    IngestError::Disk(_) => self.origin.abort_here(reason).await,
                    _ => self.origin.abort(reason).await,
                }
            }
        }
    }

    async fn read_whole(&self, body: SourceBody) -> Result<Digest, IngestError> {
        let expected = self.origin.handle().content().digest();
        let mut hash = self.hash_stored(WholeHash::new(expected.as_ref())).await?;
        let mut pace = self.pace.clone();
        let mut body = Some(body);
        let mut failures = 0;
        loop {
            let before = self.origin.published();
            let outcome = match body.take() {
                Some(body) => self.read(body, &mut hash, &mut pace).await,
                None => self.reopen(&mut hash, &mut pace).await,
            };
            let error = match outcome {
                Ok(()) => return hash.finish(expected),
                Err(error) if error.is_passing() => error,
                Err(error) => return Err(error),
            };
            // Progress starts the count anew: a source that drops each connection after a
            // while still delivers.
            failures = if self.origin.published() > before {
                0
            } else {
                failures + 1
            };
            let Some(pause) = BACKOFF.get(failures) else {
                return Err(error);
            };
            tracing::info!(%error, "source failed, asking it again");
            tokio::time::sleep(*pause).await;
        }
    }

    async fn reopen(&self, hash: &mut WholeHash, pace: &mut Pace) -> Result<(), IngestError> {
        let body = self.open_rest().await?;
        let handle = self.origin.handle();
        if body
            .total
            .is_some_and(|total| total != handle.geometry().length())
        {
            return Err(SourceError::Nonsense("another length than before").into());
        }
        // Two replicas of a registry may name the same blob differently; its digest decides.
        if handle.content().digest().is_none() && body.validator != self.validator {
            return Err(IngestError::Changed);
        }
        self.read(body, hash, pace).await
    }

    /// Asks as the last caller; as those before him while the source says that it may not be, and
    /// then in the supernode's own name: the callers were let in, but tokens expire.
    async fn open_rest(&self) -> Result<SourceBody, SourceError> {
        self.open_from(self.position()).await
    }

    pub(super) async fn open_from(&self, position: u64) -> Result<SourceBody, SourceError> {
        let callers = self.callers.lock().clone();
        let mut refused = SourceError::Url("no caller has asked for it");
        for Caller { url, headers } in &callers {
            match self.source.open(url, headers, position).await {
                Err(error @ SourceError::Refused { .. }) if !is_passing(&error) => refused = error,
                other => return other,
            }
        }
        // The same blob may be in several repositories.
        let urls: BTreeSet<&Url> = callers.iter().map(|caller| &caller.url).collect();
        for url in urls {
            match self.open_as_ourselves(url, position).await {
                None => {}
                Some(Err(error @ SourceError::Refused { .. })) if !is_passing(&error) => {
                    tracing::info!(%error, "continuing with the supernode's own login");
                }
                Some(other) => return other,
            }
        }
        Err(refused)
    }

    /// None without a login for this registry. One that has been kept may have expired as well.
    async fn open_as_ourselves(
        &self,
        url: &Url,
        position: u64,
    ) -> Option<Result<SourceBody, SourceError>> {
        let mut refused = None;
        for _ in 0..2 {
            let headers = match self.logins.headers(url).await {
                Ok(headers) => headers,
                Err(error) => {
                    tracing::debug!(%error, "no login of the supernode's own for this source");
                    return refused;
                }
            };
            match self.source.open(url, &headers, position).await {
                Err(SourceError::Refused { status: 401 }) => {
                    refused = Some(Err(SourceError::Refused { status: 401 }));
                    self.logins.forget(url).await;
                }
                other => return Some(other),
            }
        }
        refused
    }

    /// Bytes published so far: where the source is asked to go on.
    fn position(&self) -> u64 {
        let geometry = self.origin.handle().geometry();
        let next = geometry.piece(self.origin.published());
        next.map_or(geometry.length(), |piece| geometry.piece_offset(piece))
    }

    /// Publishes `body` piece by piece. While a piece is hashed and stored the next ones are read.
    async fn read(
        &self,
        body: SourceBody,
        hash: &mut WholeHash,
        pace: &mut Pace,
    ) -> Result<(), IngestError> {
        let (to_publish, pieces) = mpsc::channel(PIECES_READ_AHEAD);
        let reading = PieceSource::new(self.origin.handle().geometry(), body, pace)
            .read_from(self.origin.published(), to_publish);
        // What was read before the source failed is published too.
        let reading = async { Ok(reading.await) };
        let (read, ()) = tokio::try_join!(reading, self.publish(pieces, hash))?;
        read
    }

    async fn publish(
        &self,
        mut pieces: mpsc::Receiver<PieceData>,
        hash: &mut WholeHash,
    ) -> Result<(), IngestError> {
        while let Some(piece) = pieces.recv().await {
            let (published, hashed) = tokio::join!(
                self.origin.publish(piece.clone()),
                update(hash.clone(), piece)
            );
            published?;
            *hash = hashed;
        }
        Ok(())
    }

    /// The hash of what an earlier run stored.
    async fn hash_stored(&self, mut hash: WholeHash) -> Result<WholeHash, IngestError> {
        let layer = self.origin.handle().layer().clone();
        let end = self.position();
        let hashed = tokio::task::spawn_blocking(move || {
            let mut offset = 0;
            while offset < end {
                let part = usize::try_from(end - offset)
                    .unwrap_or(READ_BACK)
                    .min(READ_BACK);
                hash.update(&layer.read(offset, part)?);
                offset += part as u64;
            }
            Ok::<_, std::io::Error>(hash)
        });
        Ok(hashed.await.map_err(std::io::Error::other)??)
    }
}

async fn update(mut hash: WholeHash, piece: PieceData) -> WholeHash {
    if piece.len() <= HASHED_AT_ONCE {
        hash.update_all(&piece);
        return hash;
    }
    let kept = hash.clone();
    let updated = tokio::task::spawn_blocking(move || {
        hash.update_all(&piece);
        hash
    });
    // Only a stopping runtime drops the task; the digest then fails to match.
    updated.await.unwrap_or(kept)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flotilla_client::{Engine, EngineConfig, SwarmState};
    use flotilla_torrents::{ContentId, Geometry};
    use futures_util::{StreamExt as _, stream};
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use flotilla_registry::login::LoginConfig;
    use flotilla_registry::pace::Waited;
    use flotilla_registry::source::SourceConfig;

    const DEADLINE: Duration = Duration::from_secs(30);
    const HUGE: u64 = 1 << 40;

    #[tokio::test]
    async fn a_source_that_trickles_loses_its_place() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            data_dir: dir.path().to_owned(),
            cache_quota: u64::MAX,
            upload_rate: None,
            download_rate: None,
        };
        let stop = CancellationToken::new();
        let peers = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let engine = Engine::start(&config, peers, stop.clone()).unwrap();
        let content = ContentId::blob(&DigestHasher::sha256_of(b"huge"));
        let geometry = Geometry::for_length(HUGE).unwrap();
        let opened = engine.create_origin(&content, geometry, "http://a.test", None);
        let handle = opened.await.unwrap();
        assert_eq!(engine.store().bytes(), HUGE);
        let source = Source::new(&SourceConfig::default()).unwrap();
        let logins = RegistryLogins::new(&LoginConfig::default(), source.clone()).unwrap();
        let origin = handle.begin_ingest().unwrap();
        let ingest = Ingest {
            pace: Pace::at_least(1000, Duration::from_millis(300)),
            ..Ingest::new(source, logins, origin, String::new())
        };
        let trickle = stream::repeat_with(|| Ok(Bytes::from_static(b"x"))).then(async |byte| {
            tokio::time::sleep(Duration::from_millis(10)).await;
            byte
        });
        let waited = Waited::default();
        let body = SourceBody {
            total: Some(HUGE),
            validator: String::new(),
            bytes: waited.count(trickle.boxed()).boxed(),
            waited,
        };
        let ended = tokio::time::timeout(DEADLINE, ingest.run(body)).await;
        ended.expect("given up in time");
        let given_back = async {
            while engine.store().bytes() != 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let given_back = tokio::time::timeout(DEADLINE, given_back).await;
        given_back.expect("its place is free");
        let state = handle.status().state;
        assert!(
            matches!(&state, SwarmState::Void(reason) if reason.contains("bytes in")),
            "{state:?}"
        );
        stop.cancel();
    }
}
