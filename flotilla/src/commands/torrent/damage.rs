//! Files and pieces that do not match their torrent.

use std::io::Write as _;

use flotilla_client::torrent_files::{FileReport, FileState, Verification};
use flotilla_torrents::Metainfo;

use crate::sanitize::Sanitized;

/// Names the pieces and files that are damaged or missing.
pub(super) fn print_damage(torrent: &Metainfo, found: &Verification) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (what, pieces) in [("damaged", &found.damaged), ("missing", &found.missing)] {
        if !pieces.is_empty() {
            writeln!(out, "{what} pieces: {pieces}")?;
        }
    }
    for report in &found.files {
        let file = torrent.files().get(report.file);
        let path = match file.map(ToString::to_string) {
            Some(path) if !path.is_empty() => path,
            _ => torrent.name().to_owned(),
        };
        let length = file.map_or(0, |file| file.length());
        writeln!(out, "{}: {}", Sanitized(&path), fault(report, length))?;
    }
    Ok(out.flush()?)
}

fn fault(report: &FileReport, length: u64) -> String {
    let mut faults = Vec::new();
    match &report.state {
        FileState::Missing => return "missing".to_owned(),
        FileState::NotAFile => return "not a regular file".to_owned(),
        FileState::Length(found) => {
            faults.push(format!("wrong length, {found} bytes, expected {length}"));
        }
        FileState::Unreadable(reason) => faults.push(format!("cannot be read: {reason}")),
        _ => {}
    }
    if !report.damaged.is_empty() {
        faults.push(format!("damaged in pieces {}", report.damaged));
    }
    if !report.doubtful.is_empty() {
        let pieces = &report.doubtful;
        faults.push(format!(
            "in doubt, shares failing pieces {pieces} with other files"
        ));
    }
    faults.join("; ")
}
