//! `flotilla torrent`: makes, shows, verifies and seeds .torrent files.

mod addresses;
mod create;
mod damage;
mod progress_bar;
mod seed;
mod show;
mod torrent_file;
mod verify;

use clap::Subcommand;
use tokio_util::sync::CancellationToken;

use self::create::{CreateArgs, create};
use self::seed::{SeedArgs, seed};
use self::show::{ShowArgs, show};
use self::verify::{VerifyArgs, verify};

#[derive(Debug, Subcommand)]
pub(crate) enum TorrentCommand {
    /// Make a .torrent of a file or directory, for any BitTorrent client
    Create(CreateArgs),
    /// Print the contents of a .torrent
    Show(ShowArgs),
    /// Compare files with their .torrent
    Verify(VerifyArgs),
    /// Seed content of this disk to any BitTorrent client
    Seed(SeedArgs),
}

/// Runs one of the commands; the signal stops it after the pieces at hand.
pub(crate) async fn run(
    command: TorrentCommand,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    match command {
        TorrentCommand::Create(args) => hashing(move || create(args, &shutdown)).await,
        TorrentCommand::Show(args) => hashing(move || show(&args)).await,
        TorrentCommand::Verify(args) => hashing(move || verify(&args, &shutdown)).await,
        TorrentCommand::Seed(args) => seed(args, shutdown).await,
    }
}

/// Hashing keeps every core busy for minutes: not on the reactor's threads.
async fn hashing(work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(work).await?
}
