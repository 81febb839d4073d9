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
use crate::sanitize::Shown;

const VERIFY_HELP: &str = "\
Prints damaged and missing pieces by number, 0 the first one, and the files that are missing,
have a wrong length or are damaged. Files that the torrent does not have are not looked at.

Exit codes:
  0  every piece matches, every file has its length
  1  damaged, or failed; stderr says which";

#[derive(Debug, Args)]
#[command(after_help = VERIFY_HELP)]
pub(crate) struct VerifyArgs {
    /// The .torrent (BitTorrent v1, BEP 3; at most 24MiB)
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
        writeln!(out, "{} is whole: {}", Shown(&root), summary(&torrent))?;
        return Ok(out.flush()?);
    }
    drop(out);
    print_damage(&torrent, &found)?;
    let failed = found.damaged.count().saturating_add(found.missing.count());
    bail!(
        "{} is not whole: {failed} of {} pieces fail, {} of {} files are damaged, missing or in doubt",
        Shown(&root),
        torrent.geometry().piece_count(),
        found.files.len(),
        torrent
            .files()
            .iter()
            .filter(|file| !file.is_padding())
            .count(),
    );
}
