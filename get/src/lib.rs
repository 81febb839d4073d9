//! `flotilla get`: files through the swarm or straight from their sources, each whole and verified
//! or not at all.
//!
//! A file arrives in the data directory: through the swarm as pieces in a [store](flotilla_client::store),
//! straight from its source as a part file with a record of what survives a crash. Both are
//! continued after an interruption, and started over when the content has changed.

#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

mod call;
mod error;
mod events;
mod files;
mod from_daemon;
mod from_swarm;
mod get_source;
mod http;
mod listing;
mod options;
mod stop;
mod torrent;
pub mod torrent_swarm;
mod transfer;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::error::GetError;
pub use self::events::{GetEvent, Observer, Progress, Way, share};
pub use self::files::expected_digest::{ExpectedDigest, ExpectedDigestError};
pub use self::get_source::{GetSource, GetSourceError};
pub use self::http::min_rate::MinRate;
pub use self::http::netrc::{Login, Netrc};
pub use self::http::source_client::{SourceClient, SourceOptions};
pub use self::listing::index_walk::{IndexEntry, IndexError, IndexLimits, IndexOptions, walk};
pub use self::listing::remote_name::remote_name;
pub use self::options::{GetFile, GetOptions, Seeding};
pub use flotilla_client::{ByteRange, ByteRangeError};
pub use flotilla_cluster::redacted;

use flotilla_client::{Node, NodeConfig};
use flotilla_cluster::rate_limit::RateLimiter;

use self::call::Call;
use self::transfer::{Seed, Transfer};
use crate::files::work_dir::WorkDir;

/// Gets the files. Returns when each is complete, verified and seeded, or has failed; the failed
/// ones with the reason. The signal ends it early; after completion it only ends the seeding.
///
/// # Errors
/// It could not begin.
pub async fn run(
    options: GetOptions,
    files: Vec<GetFile>,
    observer: Observer,
    shutdown: CancellationToken,
) -> Result<Vec<(PathBuf, GetError)>, GetError> {
    let work_dir = WorkDir::open(&options.data_dir, options.is_data_dir_own)?;
    let client = SourceClient::new(options.source.clone())?;
    let stop = shutdown.child_token();
    // Torrents have swarms of their own.
    let asks_swarm = files
        .iter()
        .any(|file| matches!(file.source, GetSource::Web(_)));
    let node = match options.supernodes.is_empty() || !asks_swarm {
        true => None,
        false => Some(start_node(&options, work_dir.path(), stop.clone()).await?),
    };
    let limit = match &node {
        Some(node) => node.engine().download_limit(),
        None => RateLimiter::new(options.download_rate),
    };
    let parallel = options.parallel.get();
    let call = Call {
        client,
        node,
        limit,
        shutdown: shutdown.clone(),
        options,
    };
    let outcomes: Vec<_> = futures_util::stream::iter(&files)
        .map(|file| {
            let transfer = Transfer::new(&call, file, work_dir.parts_of(&file.output), &observer);
            async move { (file, transfer.run().await) }
        })
        .buffer_unordered(parallel)
        .collect()
        .await;
    let (mut failed, mut seeds) = (Vec::new(), Vec::new());
    for (file, outcome) in outcomes {
        match outcome {
            Ok(seed) => seeds.extend(seed),
            Err(error) => failed.push((file.output.clone(), error)),
        }
    }
    let seeding = futures_util::future::join_all(seeds.iter().map(Seed::until_done));
    shutdown.run_until_cancelled(seeding).await;
    stop.cancel();
    if let Some(node) = &call.node {
        node.engine().stopped().await;
    }
    drop((call, seeds));
    if failed.is_empty() {
        work_dir.finish();
    }
    Ok(failed)
}

async fn start_node(
    options: &GetOptions,
    data_dir: &Path,
    stop: CancellationToken,
) -> Result<Node, GetError> {
    let listen = options
        .peer_listen
        .unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let peers = TcpListener::bind(listen)
        .await
        .map_err(|error| GetError::Setup(format!("peer address {listen}: {error}")))?;
    let config = NodeConfig {
        data_dir: data_dir.to_owned(),
        supernodes: options.supernodes.clone(),
        origin_of: flotilla_registry::origin_of,
        join_token: options.join_token.clone(),
        node_name: "get".to_owned(),
        cache_quota: u64::MAX,
        upload_rate: options.upload_rate,
        download_rate: options.download_rate,
    };
    let node = Node::start(config, peers, stop).await;
    node.map_err(|error| GetError::Setup(error.to_string()))
}
