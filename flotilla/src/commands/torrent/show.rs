//! `flotilla torrent show`.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use flotilla_torrents::Metainfo;

use super::torrent_file::{read, size};
use crate::config::units::ByteCount;
use crate::sanitize::Sanitized;

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// .torrent, BitTorrent v1, at most 24MiB
    torrent: PathBuf,
    /// Print JSON
    ///
    /// Its fields: name, info_hash, length (bytes), directory, files, piece_length (bytes), pieces,
    /// private, comment, trackers (by tier), web_seeds, magnet.
    #[arg(long)]
    json: bool,
}

pub(super) fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let torrent = read(&args.torrent)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if args.json {
        serde_json::to_writer_pretty(&mut out, &as_json(&torrent))?;
        writeln!(out)?;
        return Ok(out.flush()?);
    }
    let geometry = torrent.geometry();
    let yes_no = |value| if value { "yes" } else { "no" };
    writeln!(out, "name          {}", Sanitized(torrent.name()))?;
    writeln!(out, "size          {}", size(geometry.length()))?;
    writeln!(
        out,
        "piece length  {}",
        ByteCount(geometry.piece_length().into())
    )?;
    writeln!(out, "pieces        {}", geometry.piece_count())?;
    writeln!(out, "private       {}", yes_no(torrent.is_private()))?;
    if let Some(comment) = torrent.comment() {
        writeln!(out, "comment       {}", Sanitized(comment))?;
    }
    for (number, tier) in torrent.announce().iter().enumerate() {
        for url in tier {
            writeln!(out, "tracker       tier {}: {}", number + 1, Sanitized(url))?;
        }
    }
    for url in torrent.url_list() {
        writeln!(out, "web seed      {}", Sanitized(url))?;
    }
    writeln!(out, "info hash     {}", torrent.info_hash())?;
    writeln!(out, "magnet link   {}", torrent.magnet())?;
    if torrent.is_directory() {
        writeln!(out, "files         {}", torrent.files().len())?;
        for file in torrent.files() {
            let padding = if file.is_padding() { " (padding)" } else { "" };
            let path = file.to_string();
            writeln!(out, "{:>14}  {}{padding}", file.length(), Sanitized(&path))?;
        }
    }
    Ok(out.flush()?)
}

fn as_json(torrent: &Metainfo) -> serde_json::Value {
    let geometry = torrent.geometry();
    let files: Vec<_> = torrent
        .files()
        .iter()
        .map(|file| {
            let path = if torrent.is_directory() {
                file.to_string()
            } else {
                torrent.name().to_owned()
            };
            serde_json::json!({
                "path": path,
                "length": file.length(),
                "padding": file.is_padding(),
            })
        })
        .collect();
    serde_json::json!({
        "name": torrent.name(),
        "info_hash": torrent.info_hash(),
        "length": geometry.length(),
        "directory": torrent.is_directory(),
        "files": files,
        "piece_length": geometry.piece_length(),
        "pieces": geometry.piece_count(),
        "private": torrent.is_private(),
        "comment": torrent.comment(),
        "trackers": torrent.announce(),
        "web_seeds": torrent.url_list(),
        "magnet": torrent.magnet().to_string(),
    })
}
