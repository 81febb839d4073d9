//! Whole content, seeded.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use flotilla_client::RunningSwarm;
use flotilla_client::torrent_files::{TorrentStorage, Verification, VerifyError, Watch, verify};
use flotilla_torrents::Metainfo;
use tokio_util::sync::CancellationToken;

use super::{Participation, ParticipationError, SwarmOptions};

/// What to seed, and how.
#[derive(Clone, Debug)]
pub struct SeedOptions {
    /// The torrent.
    pub torrent: Arc<Metainfo>,
    /// The content, or the directory that it is in.
    pub place: PathBuf,
    /// How to take part.
    pub swarm: SwarmOptions,
}

/// Why nothing is seeded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeedError {
    /// The content cannot be compared with the torrent.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The content is damaged or missing: peers would get what they have to throw away.
    #[error("{} is not whole: {} of {} pieces fail", .0.root.display(), failing(.0), .1)]
    Damaged(Box<Verification>, u32),
    /// The content cannot be opened.
    #[error("{path}: {source}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The swarm cannot be taken part in.
    #[error(transparent)]
    Participation(#[from] ParticipationError),
}

fn failing(found: &Verification) -> u64 {
    found.damaged.count().saturating_add(found.missing.count())
}

/// A torrent that is seeded until [`Seeding::end`].
#[derive(Debug)]
pub struct Seeding {
    participation: Participation,
    swarm: RunningSwarm,
}

/// Compares the content with the torrent, and seeds it when it is whole. `advanced` is called with
/// the bytes of each piece that was compared, from any thread.
///
/// # Errors
/// The content is not whole, cannot be read, or there is no room among the peers. Cancelling
/// `stop` ends the comparison.
pub async fn seed(
    options: SeedOptions,
    advanced: impl Fn(u64) + Send + Sync + 'static,
    stop: CancellationToken,
) -> Result<Seeding, SeedError> {
    let SeedOptions {
        torrent,
        place,
        swarm,
    } = options;
    let compared = Arc::clone(&torrent);
    let opened = tokio::task::spawn_blocking(move || {
        let watch = Watch {
            advanced: &advanced,
            stop: &stop,
        };
        let found = verify(&compared, &place, watch)?;
        if !found.is_whole() {
            let pieces = compared.geometry().piece_count();
            return Err(SeedError::Damaged(Box::new(found), pieces));
        }
        TorrentStorage::whole(compared, &found.root).map_err(|source| SeedError::Open {
            path: found.root,
            source,
        })
    });
    let storage = match opened.await {
        Ok(opened) => opened?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    let tiers = [torrent.announce(), &swarm.trackers].concat();
    let participation = Participation::begin(&swarm, torrent.info_hash(), tiers, &[], true).await?;
    let running = participation.engine.join_torrent(Arc::new(storage));
    participation.run(&running);
    Ok(Seeding {
        participation,
        swarm: running,
    })
}

impl Seeding {
    /// Where peers connect to.
    pub fn listen_addr(&self) -> SocketAddr {
        self.participation.engine.listen_addr()
    }

    /// The swarm.
    pub fn swarm(&self) -> &RunningSwarm {
        &self.swarm
    }

    /// Leaves the swarm and tells the trackers.
    pub async fn end(self) {
        self.participation.end().await;
    }
}
