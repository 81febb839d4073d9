//! `flotilla torrent`: makes, shows and verifies .torrent files; seeding is in
//! [`seed`].

pub(crate) mod seed;

use std::fs::Permissions;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use flotilla_client::torrent_files::{
    self, FileReport, FileState, LocalContent, Verification, Watch,
};
use flotilla_torrents::Metainfo;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::seed::SeedArgs;
use crate::config::ConfigErrors;
use crate::config::units::ByteCount;
use crate::sanitize::Shown;

/// Longest .torrent that is read from the disk; [`Metainfo::from_bytes`] has the same cap.
const MOST_TORRENT_BYTES: u64 = 24 * 1024 * 1024;
/// Entries that were left out which are named one by one.
const NAMED_LEFT_OUT: usize = 20;

#[derive(Debug, Subcommand)]
pub(crate) enum TorrentCommand {
    /// Make a .torrent of a file or directory, for any BitTorrent client
    Create(CreateArgs),
    /// Print what a .torrent says
    Show(ShowArgs),
    /// Compare files with their .torrent; exit code 1 when anything is damaged or missing
    Verify(VerifyArgs),
    /// Serve content on this disk to BitTorrent clients of any make
    Seed(SeedArgs),
}

const CREATE_EXAMPLES: &str = "\
Examples:
  flotilla torrent create model.bin -o model.torrent --tracker http://tracker:8001/announce
  flotilla torrent create dataset/ -o dataset.torrent --private --piece-length 4MiB \\
      --tracker http://a/announce,http://b/announce --tracker udp://c:6969 \\
      --web-seed https://files.example/datasets/

BitTorrent v1 (BEP 3). A directory's regular files are in the torrent, in the order of their
paths, empty files too; symbolic links are not followed, and named on stderr. There is no date
in the torrent: equal content, name and options give equal bytes.";

#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(crate) struct CreateArgs {
    /// The file or directory
    path: PathBuf,
    /// The .torrent to write; it appears whole, or not at all
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// A tracker, http, https or udp; repeatable, each a tier of its own that is tried after the
    /// ones before it, and several separated by commas one tier (BEP 12)
    #[arg(long, value_name = "URL[,URL…]")]
    tracker: Vec<String>,
    /// Where the content is on an HTTP server: the file, or the folder that the directory is in;
    /// http, https or ftp; repeatable (BEP 19)
    #[arg(long, value_name = "URL")]
    web_seed: Vec<String>,
    /// Peers come from the trackers alone (BEP 27)
    #[arg(long)]
    private: bool,
    /// A power of two from 16KiB to 64MiB, e.g. 1MiB [default: the content in 512 pieces, but
    /// 256KiB to 4MiB, and more only where there would be more than 2^20 pieces]
    #[arg(long, value_name = "SIZE")]
    piece_length: Option<ByteCount>,
    /// Text for whoever looks at the torrent, at most 4096 bytes
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Replace the output file when there is one
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The .torrent (BitTorrent v1, BEP 3; at most 24MiB)
    torrent: PathBuf,
    /// As JSON: name, info_hash, length in bytes, directory, files, piece_length in bytes, pieces,
    /// private, comment, trackers by tier, web_seeds, magnet
    #[arg(long)]
    json: bool,
}

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

/// Runs one of the commands; the signal stops it after the pieces at hand.
pub(crate) async fn run(
    command: TorrentCommand,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    match command {
        TorrentCommand::Create(args) => hashing(move || create(args, &shutdown)).await,
        TorrentCommand::Show(args) => hashing(move || show(&args)).await,
        TorrentCommand::Verify(args) => hashing(move || verify(&args, &shutdown)).await,
        TorrentCommand::Seed(args) => seed::seed(args, shutdown).await,
    }
}

/// Hashing keeps every core busy for minutes: not on the reactor's threads.
async fn hashing(work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(work).await?
}

fn create(args: CreateArgs, stop: &CancellationToken) -> anyhow::Result<()> {
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

/// The address as it was given, if it is one of these schemes.
pub(crate) fn address(given: &str, flag: &str, schemes: &[&str]) -> Result<String, String> {
    let parsed = Url::parse(given);
    if parsed.is_ok_and(|url| schemes.contains(&url.scheme()) && url.has_host()) {
        Ok(given.to_owned())
    } else {
        let expected = schemes.join(", ");
        Err(format!(
            "{flag} {given:?}: expected a URL, one of {expected}"
        ))
    }
}

fn say_left_out(content: &LocalContent) {
    for entry in content.left_out().iter().take(NAMED_LEFT_OUT) {
        let what = if entry.symlink {
            "symbolic link, not followed"
        } else {
            "no regular file"
        };
        let path = entry.path.to_string_lossy();
        eprintln!("flotilla: left out {}: {what}", Shown(&path));
    }
    let more = content.left_out().len().saturating_sub(NAMED_LEFT_OUT);
    if more > 0 {
        eprintln!("flotilla: left out {more} more that are no regular files");
    }
}

/// The file that is to appear.
struct Output<'a> {
    path: &'a Path,
    directory: PathBuf,
    force: bool,
}

impl<'a> Output<'a> {
    /// Refuses before anything is hashed what would fail in the end.
    fn prepare(path: &'a Path, content: &Path, force: bool) -> anyhow::Result<Self> {
        if path.file_name().is_none() || path.is_dir() {
            bail!("-o {} names no file", path.display());
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
                "-o {} is in the content; write the torrent elsewhere",
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
            // What others may do with it is for the umask to say.
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

pub(crate) fn read(path: &Path) -> anyhow::Result<Metainfo> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST_TORRENT_BYTES + 1).read_to_end(&mut bytes))
        .with_context(|| path.display().to_string())?;
    Metainfo::from_bytes(&bytes).with_context(|| format!("{} is refused", path.display()))
}

fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let torrent = read(&args.torrent)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if args.json {
        serde_json::to_writer_pretty(&mut out, &as_json(&torrent))?;
        writeln!(out)?;
        return Ok(out.flush()?);
    }
    let geometry = torrent.geometry();
    let yes_no = |value| if value { "yes" } else { "no" };
    writeln!(out, "name          {}", Shown(torrent.name()))?;
    writeln!(out, "size          {}", size(geometry.length()))?;
    writeln!(
        out,
        "piece length  {}",
        ByteCount(geometry.piece_length().into())
    )?;
    writeln!(out, "pieces        {}", geometry.piece_count())?;
    writeln!(out, "private       {}", yes_no(torrent.is_private()))?;
    if let Some(comment) = torrent.comment() {
        writeln!(out, "comment       {}", Shown(comment))?;
    }
    for (number, tier) in torrent.announce().iter().enumerate() {
        for url in tier {
            writeln!(out, "tracker       tier {}: {}", number + 1, Shown(url))?;
        }
    }
    for url in torrent.url_list() {
        writeln!(out, "web seed      {}", Shown(url))?;
    }
    writeln!(out, "info hash     {}", torrent.info_hash())?;
    writeln!(out, "magnet link   {}", torrent.magnet())?;
    if torrent.is_directory() {
        writeln!(out, "files         {}", torrent.files().len())?;
        for file in torrent.files() {
            let padding = if file.is_padding() { " (padding)" } else { "" };
            let path = file.to_string();
            writeln!(out, "{:>14}  {}{padding}", file.length(), Shown(&path))?;
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

fn verify(args: &VerifyArgs, stop: &CancellationToken) -> anyhow::Result<()> {
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

/// Names the pieces and files that are damaged or missing.
pub(crate) fn print_damage(torrent: &Metainfo, found: &Verification) -> anyhow::Result<()> {
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
        writeln!(out, "{}: {}", Shown(&path), fault(report, length))?;
    }
    Ok(out.flush()?)
}

fn fault(report: &FileReport, length: u64) -> String {
    let mut faults = Vec::new();
    match &report.state {
        FileState::Missing => return "missing".to_owned(),
        FileState::NotAFile => return "no regular file has this path".to_owned(),
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

/// What there is of it, in one line.
pub(crate) fn summary(torrent: &Metainfo) -> String {
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

fn size(bytes: u64) -> String {
    if bytes < 1024 {
        format!("{bytes} bytes")
    } else {
        format!("{bytes} bytes ({})", HumanBytes(bytes))
    }
}

/// Hidden where nobody looks at it.
pub(crate) fn progress_bar(bytes: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{bar:32} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    ProgressBar::new(bytes).with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}
