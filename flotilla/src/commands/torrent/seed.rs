//! `flotilla torrent seed`: content on this disk for any BitTorrent client.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use flotilla_cluster::{register_torrent, tracker_url};
use flotilla_get::torrent_swarm;
use flotilla_get::torrent_swarm::{SeedError, SeedOptions, Seeding, SwarmOptions};
use flotilla_torrents::Metainfo;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::addresses::address;
use super::damage::print_damage;
use super::progress_bar::progress_bar;
use super::torrent_file::{read, summary};
use crate::config::ConfigErrors;
use crate::config::join_token;
use crate::config::secrets::SecretFile;
use crate::config::supernode_urls;
use crate::config::units::Rate;
use crate::sanitize::Sanitized;

/// Where peers connect to when nothing is said: the first of BitTorrent's customary ports.
const PEER_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 6881);
/// Between two log lines about what was sent.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A restarted supernode tracks the torrent again after this.
const REGISTER_INTERVAL: Duration = Duration::from_secs(5 * 60);

const DETAILS: &str = "\
The content is first compared with the torrent. Damaged content is not seeded; the damage is printed \
as by `flotilla torrent verify`. The command runs until it is stopped.

Exit codes:
  0  stopped by a signal
  1  the content is damaged, or the command failed; stderr says which
  2  the command line is wrong";

#[derive(Debug, Args)]
#[command(after_long_help = DETAILS)]
pub(crate) struct SeedArgs {
    /// .torrent, BitTorrent v1, at most 24MiB
    torrent: PathBuf,
    /// The content, or the directory that it is in
    dir: PathBuf,
    /// Address for peers [default: 0.0.0.0:6881]
    #[arg(long, value_name = "ADDR:PORT")]
    peer_listen: Option<SocketAddr>,
    /// Limit on what is sent to peers [default: unlimited]
    ///
    /// Such as 20MB/s.
    #[arg(long, value_name = "RATE")]
    upload_rate: Option<Rate>,
    /// Tracker besides the torrent's; repeatable
    ///
    /// http, https or udp. Several URLs separated by commas are one tier (BEP 12).
    #[arg(long, value_name = "URL[,URL…]")]
    tracker: Vec<String>,
    /// Supernode that tracks the torrent; repeatable
    ///
    /// Or several, separated by commas. It tracks the torrent for any client, while it is seeded and
    /// for a day after.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    supernode: Vec<String>,
    /// File with the cluster's secret [default: none]
    ///
    /// The environment variable FLOTILLA_JOIN_TOKEN can hold the secret itself.
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    /// Peer to connect to; repeatable
    #[arg(long, value_name = "ADDR:PORT")]
    peer: Vec<SocketAddr>,
}

/// Seeds until `shutdown`.
pub(crate) async fn seed(args: SeedArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    let mut trackers = Vec::new();
    for tier in &args.tracker {
        let urls = tier.split(',').map(str::trim);
        let checked = urls.map(|url| address(url, "--tracker", &["http", "https", "udp"]));
        let checked = checked.filter_map(|url| url.map_err(|error| errors.push(error)).ok());
        trackers.push(checked.collect());
    }
    let supernodes = supernode_urls::of_flag(&args.supernode, &mut errors);
    if !errors.is_empty() {
        return Err(ConfigErrors(errors).into());
    }
    let join_token = join_token::given(&SecretFile::of_flag(args.join_token_file.as_deref()))?;
    trackers.extend(
        supernodes
            .iter()
            .map(|url| vec![tracker_url(url).to_string()]),
    );
    let torrent = Arc::new(read(&args.torrent)?);
    let bar = progress_bar(torrent.geometry().length());
    let advanced = {
        let bar = bar.clone();
        move |bytes| bar.inc(bytes)
    };
    let options = SeedOptions {
        torrent: Arc::clone(&torrent),
        place: args.dir,
        swarm: SwarmOptions {
            peer_listen: args.peer_listen.unwrap_or(PEER_LISTEN),
            upload_rate: args.upload_rate.and_then(|rate| rate.0),
            trackers,
            peers: args.peer,
            ..SwarmOptions::default()
        },
    };
    let started = torrent_swarm::seed(options, advanced, shutdown.clone()).await;
    bar.finish_and_clear();
    let seeding = match started {
        Ok(seeding) => seeding,
        Err(SeedError::Damaged(found, _)) => {
            print_damage(&torrent, &found)?;
            bail!(
                "{} is damaged or incomplete; nothing is seeded",
                Sanitized(&found.root.to_string_lossy())
            );
        }
        Err(error) => return Err(error.into()),
    };
    for supernode in &supernodes {
        register_torrent(supernode, join_token.as_deref(), &torrent).await?;
    }
    announce(&seeding, &torrent)?;
    let known = keep_registered(&supernodes, join_token.as_deref(), &torrent);
    shutdown
        .run_until_cancelled(async { tokio::join!(follow(&seeding), known) })
        .await;
    seeding.end().await;
    Ok(())
}

fn announce(seeding: &Seeding, torrent: &Metainfo) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "seeding {} on {}: {}",
        Sanitized(torrent.name()),
        seeding.listen_addr(),
        summary(torrent)
    )?;
    writeln!(out, "magnet link  {}", torrent.magnet())?;
    Ok(out.flush()?)
}

/// Registers the torrent again and again: a supernode forgets it when it is restarted.
async fn keep_registered(supernodes: &[Url], join_token: Option<&str>, torrent: &Metainfo) {
    loop {
        tokio::time::sleep(REGISTER_INTERVAL).await;
        for supernode in supernodes {
            if let Err(error) = register_torrent(supernode, join_token, torrent).await {
                tracing::warn!(%error, "torrent not registered at the supernode; retrying in 5 minutes");
            }
        }
    }
}

/// Logs what was sent.
async fn follow(seeding: &Seeding) {
    let uploaded = &seeding.swarm().counters().uploaded;
    let mut before = 0;
    loop {
        tokio::time::sleep(PROGRESS_INTERVAL).await;
        let now = uploaded.load(std::sync::atomic::Ordering::Relaxed);
        if now != before {
            let peers = seeding.swarm().status().peers;
            tracing::info!(uploaded = now, peers, "seeding");
        }
        before = now;
    }
}
