//! `flotilla torrent create`.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use flotilla_client::torrent_files::{LocalContent, Watch};
use flotilla_torrents::Metainfo;
use tokio_util::sync::CancellationToken;

use super::addresses::address;
use super::progress_bar::progress_bar;
use super::torrent_file::summary;
use crate::config::ConfigErrors;
use crate::config::units::ByteCount;
use crate::sanitize::Sanitized;

/// Entries not in the torrent that are listed one by one.
const NAMED_LEFT_OUT: usize = 20;

macro_rules! examples {
    () => {
        "\
Examples:
  flotilla torrent create model.bin -o model.torrent --tracker http://tracker:8001/announce
  flotilla torrent create dataset/ -o dataset.torrent --private --piece-length 4MiB \\
      --tracker http://a/announce,http://b/announce --tracker udp://c:6969 \\
      --web-seed https://files.example/datasets/"
    };
}

const DETAILS: &str = concat!(
    examples!(),
    "

The torrent is BitTorrent v1 (BEP 3). It has the regular files of a directory in the order of their \
paths, empty files included. Symbolic links are not followed; they are listed on stderr. The torrent \
has no date: equal content, name and options give equal bytes."
);

#[derive(Debug, Args)]
#[command(after_help = examples!(), after_long_help = DETAILS)]
pub(crate) struct CreateArgs {
    /// File or directory
    path: PathBuf,
    /// .torrent to write
    ///
    /// It appears when it is complete.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Tracker, http, https or udp; repeatable
    ///
    /// Each --tracker is a tier, tried after the tiers before it. Several URLs separated by commas
    /// are one tier (BEP 12).
    #[arg(long, value_name = "URL[,URL…]")]
    tracker: Vec<String>,
    /// HTTP server with the content; repeatable
    ///
    /// The URL of the file, or of the folder that the directory is in; http, https or ftp (BEP 19).
    #[arg(long, value_name = "URL")]
    web_seed: Vec<String>,
    /// Take peers from the trackers only (BEP 27)
    #[arg(long)]
    private: bool,
    /// Power of two, 16KiB to 64MiB [default: by size]
    ///
    /// By default the content has at most 4,096 pieces, of 64KiB to 4MiB. Pieces are larger only where
    /// there would be more than 2^20 of them.
    #[arg(long, value_name = "SIZE")]
    piece_length: Option<ByteCount>,
    /// Comment in the torrent, at most 4096 bytes
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Replace an existing output file
    #[arg(short, long)]
    force: bool,
}

pub(super) fn create(args: CreateArgs, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    let tiers = args.tracker.iter().map(|tier| {
        let trackers = tier.split(',').map(str::trim);
        let checked = trackers.map(|url| address(url, "--tracker", &["http", "https", "udp"]));
        checked.collect::<Vec<_>>()
    });
    let tiers = tiers.collect::<Vec<_>>();
    let web_seeds = args.web_seed.iter();
    let web_seeds = web_seeds.map(|url| address(url, "--web-seed", &["http", "https", "ftp"]));
    let web_seeds = web_seeds.collect::<Vec<_>>();
    let mut taken =
        |checked: Result<String, String>| checked.map_err(|error| errors.push(error)).ok();
    let tiers: Vec<Vec<String>> = tiers
        .into_iter()
        .map(|tier| tier.into_iter().filter_map(&mut taken).collect())
        .collect();
    let mut web_seeds: Vec<String> = web_seeds.into_iter().filter_map(&mut taken).collect();
    let piece_length = args.piece_length.map(|length| {
        u32::try_from(length.0)
            .ok()
            .filter(|length| length.is_power_of_two() && (16 << 10..=64 << 20).contains(length))
    });
    if let (Some(given), Some(None)) = (args.piece_length, piece_length) {
        errors.push(format!(
            "--piece-length {given}: expected a power of two from 16KiB to 64MiB"
        ));
    }
    if !errors.is_empty() {
        return Err(ConfigErrors(errors).into());
    }
    Metainfo::check_sources(&tiers, &web_seeds, args.comment.as_deref())
        .map_err(|error| ConfigErrors(vec![error.to_string()]))?;
    let output = Output::prepare(&args.output, &args.path, args.force)?;
    let content = LocalContent::find(&args.path)?;
    say_left_out(&content);
    if content.is_directory() {
        // BEP 19: clients append the torrent's name and a file's path to it.
        for url in web_seeds.iter_mut().filter(|url| !url.ends_with('/')) {
            url.push('/');
        }
    }
    let geometry = content.geometry(piece_length.flatten())?;
    let bar = progress_bar(geometry.length());
    let advanced = &|bytes| bar.inc(bytes);
    let torrent = content.torrent(geometry, args.private, Watch { advanced, stop });
    bar.finish_and_clear();
    let torrent = torrent?.with_sources(tiers, web_seeds, args.comment)?;
    output.write(&torrent.to_bytes())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", summary(&torrent))?;
    writeln!(out, "info hash  {}", torrent.info_hash())?;
    Ok(())
}

fn say_left_out(content: &LocalContent) {
    for entry in content.left_out().iter().take(NAMED_LEFT_OUT) {
        let what = if entry.symlink {
            "symbolic link, not followed"
        } else {
            "not a regular file"
        };
        let path = entry.path.to_string_lossy();
        eprintln!("flotilla: not in the torrent: {}: {what}", Sanitized(&path));
    }
    let more = content.left_out().len().saturating_sub(NAMED_LEFT_OUT);
    if more > 0 {
        eprintln!("flotilla: not in the torrent: {more} more that are not regular files");
    }
}

/// The file to write.
struct Output<'a> {
    path: &'a Path,
    directory: PathBuf,
    force: bool,
}

impl<'a> Output<'a> {
    /// Fails before anything is hashed where the end would fail.
    fn prepare(path: &'a Path, content: &Path, force: bool) -> anyhow::Result<Self> {
        if path.file_name().is_none() || path.is_dir() {
            bail!("-o {}: expected the path of a file", path.display());
        }
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new(".")).to_owned();
        let real = directory
            .canonicalize()
            .with_context(|| format!("directory of -o {}", path.display()))?;
        let content = content
            .canonicalize()
            .with_context(|| content.display().to_string())?;
        if real.starts_with(&content) || path.canonicalize().is_ok_and(|path| path == content) {
            bail!(
                "-o {} is inside the content; write the torrent elsewhere",
                path.display()
            );
        }
        if !force && path.symlink_metadata().is_ok() {
            bail!("{} exists; replace it with --force", path.display());
        }
        Ok(Self {
            path,
            directory,
            force,
        })
    }

    fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let context = || format!("cannot write {}", self.path.display());
        let mut file = tempfile::Builder::new()
            .prefix(".flotilla-")
            // The umask decides about other users.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&self.directory)
            .with_context(context)?;
        file.write_all(bytes).with_context(context)?;
        file.as_file().sync_all().with_context(context)?;
        let written = if self.force {
            file.persist(self.path)
        } else {
            file.persist_noclobber(self.path)
        };
        written.map_err(|error| error.error).with_context(context)?;
        Ok(())
    }
}
