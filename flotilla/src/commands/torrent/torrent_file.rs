//! A .torrent of the disk, and what it says in a line.

use std::path::Path;

use anyhow::Context as _;
use flotilla_torrents::Metainfo;
use indicatif::{HumanBytes, HumanCount};

use crate::config::units::ByteCount;

/// Longest .torrent that is read from the disk; [`Metainfo::from_bytes`] has the same cap.
const MAX_TORRENT_BYTES: u64 = 24 * 1024 * 1024;

pub(super) fn read(path: &Path) -> anyhow::Result<Metainfo> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_TORRENT_BYTES + 1).read_to_end(&mut bytes))
        .with_context(|| path.display().to_string())?;
    Metainfo::from_bytes(&bytes)
        .with_context(|| format!("{} is not a usable .torrent", path.display()))
}

/// What there is of it, in one line.
pub(super) fn summary(torrent: &Metainfo) -> String {
    let geometry = torrent.geometry();
    let (files, pieces) = (torrent.files().len(), geometry.piece_count());
    let files = format!("{} file{}", HumanCount(files as u64), plural(files == 1));
    let pieces = format!("{pieces} piece{}", plural(pieces == 1));
    let piece_length = ByteCount(geometry.piece_length().into());
    let size = size(geometry.length());
    format!("{files}, {size}, {pieces} of {piece_length}")
}

fn plural(one: bool) -> &'static str {
    if one { "" } else { "s" }
}

pub(super) fn size(bytes: u64) -> String {
    if bytes < 1024 {
        format!("{bytes} bytes")
    } else {
        format!("{bytes} bytes ({})", HumanBytes(bytes))
    }
}
