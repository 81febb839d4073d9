//! `flotilla torrent verify`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use flotilla_client::torrent_files::{self, Watch};
use tokio_util::sync::CancellationToken;

use super::damage::print_damage;
use super::progress_bar::progress_bar;
use super::torrent_file::{read, summary};
use crate::sanitize::Sanitized;

const DETAILS: &str = "\
Prints the numbers of damaged and missing pieces, from 0 on, and the files that are missing, damaged \
or of a wrong length. Files that are not in the torrent are ignored.

Exit codes:
  0  every piece matches, every file has its length
  1  something is damaged or missing, or the command failed; stderr says which
  2  the command line is wrong";

#[derive(Debug, Args)]
#[command(after_long_help = DETAILS)]
pub(crate) struct VerifyArgs {
    /// .torrent, BitTorrent v1, at most 24MiB
    torrent: PathBuf,
    /// The content, or the directory that it is in
    dir: PathBuf,
}

pub(super) fn verify(args: &VerifyArgs, stop: &CancellationToken) -> anyhow::Result<()> {
    let torrent = read(&args.torrent)?;
    let bar = progress_bar(torrent.geometry().length());
    let advanced = &|bytes| bar.inc(bytes);
    let found = torrent_files::verify(&torrent, &args.dir, Watch { advanced, stop });
    bar.finish_and_clear();
    let found = found?;
    let root = found.root.to_string_lossy();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if found.is_whole() {
        writeln!(
            out,
            "{} is complete: {}",
            Sanitized(&root),
            summary(&torrent)
        )?;
        return Ok(out.flush()?);
    }
    drop(out);
    print_damage(&torrent, &found)?;
    let failed = found.damaged.count().saturating_add(found.missing.count());
    bail!(
        "{} is damaged or incomplete: {failed} of {} pieces fail, {} of {} files are damaged, missing or in doubt",
        Sanitized(&root),
        torrent.geometry().piece_count(),
        found.files.len(),
        torrent
            .files()
            .iter()
            .filter(|file| !file.is_padding())
            .count(),
    );
}
