//! `flotilla get`: from the command line to the files.

pub(crate) mod args;
mod list;
mod progress;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flotilla_client::control::SOCKET;
use flotilla_client::{DaemonClient, PathFilter};
use flotilla_get as get;
use flotilla_get::{
    GetError, GetFile, GetOptions, GetSource, IndexError, IndexOptions, Login, MinRate, Netrc,
    Seeding, SourceClient, SourceOptions,
};
use glob::Pattern;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::args::GetArgs;
use self::list::{Listed, Named};
use self::progress::Display;
use crate::config::ConfigErrors;
use crate::config::join_token;
use crate::config::of_host::{self, Supernodes};
use crate::config::secrets::SecretFile;
use crate::role::Role;

/// Where the bytes of several files are until they are complete.
const DATA_DIR: &str = ".flotilla-get";
/// A swarm that is too slow is left after so long.
const MIN_RATE_WINDOW: Duration = Duration::from_secs(10);

/// Files were not downloaded.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct GetFailed {
    message: String,
    /// The program's exit code.
    pub(crate) code: u8,
}

impl GetFailed {
    fn one(error: &GetError) -> Self {
        Self {
            message: error.to_string(),
            code: exit_code(error),
        }
    }
}

fn exit_code(error: &GetError) -> u8 {
    match error {
        GetError::Digest { .. } => 3,
        GetError::Refused { .. } => 4,
        GetError::TooSlow { .. } | GetError::TimedOut => 5,
        GetError::Interrupted => 130,
        _ => 1,
    }
}

/// Gets what the command line asks for.
pub(crate) async fn run(args: GetArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut errors = Vec::new();
    let wanted = Wanted::resolve(&args, &mut errors);
    let daemon = daemon(&args, &mut errors).await;
    let options = options(&args, daemon, &mut errors);
    if !errors.is_empty() {
        return Err(ConfigErrors(errors).into());
    }
    let (mut options, display) = (options?, display(&args));
    let several = args.recursive || wanted.files.len() > 1;
    let observer = progress::observer(display, several);
    let files = if args.recursive {
        let mut files = Vec::new();
        for (url, directory) in &wanted.indexes {
            let client = SourceClient::new(options.source.clone())?;
            let found = get::walk(&client, url, &wanted.index, &observer, &shutdown).await;
            let found = found.map_err(|error| match &error {
                IndexError::Get(get) => GetFailed::one(get),
                other => GetFailed {
                    message: other.to_string(),
                    code: 1,
                },
            })?;
            // A listing does not write among the parts of its own files.
            let found = found
                .into_iter()
                .filter(|entry| !entry.path.starts_with(DATA_DIR));
            files.extend(found.map(|entry| GetFile {
                source: GetSource::Web(entry.url),
                output: directory.join(&entry.path),
                names_itself: false,
                below: Some(directory.clone()),
                digest: None,
                range: None,
                filter_query: Vec::new(),
                filter: PathFilter::default(),
            }));
        }
        files
    } else {
        wanted.files
    };
    if files.is_empty() {
        let message = "nothing to download: no file matches".to_owned();
        return Err(GetFailed { message, code: 1 }.into());
    }
    if args.data_dir.is_none() {
        options.data_dir = data_dir_beside(&files, &wanted.directory, args.recursive);
    }
    let all = files.len();
    let failed = get::run(options, files, observer, shutdown).await;
    let failed = failed.map_err(|error| GetFailed::one(&error))?;
    match failed.first() {
        None => Ok(()),
        Some((_, error)) if !several => Err(GetFailed::one(error).into()),
        Some((_, error)) => Err(GetFailed {
            message: format!("{} of {all} files failed", failed.len()),
            code: exit_code(error),
        }
        .into()),
    }
}

fn display(args: &GetArgs) -> Display {
    if args.json {
        Display::Json
    } else if args.quiet {
        Display::Quiet
    } else if std::io::stderr().is_terminal() {
        Display::Bars
    } else {
        Display::Lines
    }
}

/// Hidden beside the file; for several files, in their directory.
fn data_dir_beside(files: &[GetFile], directory: &Path, is_recursive: bool) -> PathBuf {
    match files {
        [file] if !is_recursive && is_beside(file, directory) => {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(file.output.file_name().unwrap_or_default());
            hidden.push(".flotilla");
            file.output.with_file_name(hidden)
        }
        _ => directory.join(DATA_DIR),
    }
}

/// Whether `file` lies directly in `directory`, or where -o has it. Any other directory may not be
/// there yet, and it is not for this to make it.
fn is_beside(file: &GetFile, directory: &Path) -> bool {
    let parent = file.output.parent().unwrap_or(Path::new(""));
    let is_named = file.below.is_none();
    parent.as_os_str().is_empty() || parent == directory || is_named && parent.is_dir()
}

/// What the command line asks for.
struct Wanted {
    files: Vec<GetFile>,
    /// Listings, and where their files go.
    indexes: Vec<(Url, PathBuf)>,
    index: IndexOptions,
    directory: PathBuf,
}

impl Wanted {
    fn resolve(args: &GetArgs, errors: &mut Vec<String>) -> Self {
        let mut listed: Vec<Listed> = args
            .urls
            .iter()
            .map(|source| Listed {
                source: source.clone(),
                ..Listed::default()
            })
            .collect();
        for list in &args.input_file {
            match list::read(list) {
                Ok(more) => listed.extend(more),
                Err(error) => errors.push(error),
            }
        }
        if listed.is_empty() && errors.is_empty() {
            errors.push("nothing to download: give a URL, or a list with -i".to_owned());
        }
        if args.output.is_some() && listed.len() > 1 {
            errors.push("-o names one file, but there are several URLs; use -P DIR".to_owned());
        }
        if args.digest.is_some() && (listed.len() > 1 || args.recursive) {
            errors.push(
                "--digest is for one file; for several files use digest=… in a list".to_owned(),
            );
        }
        if let Some(output) = &args.output
            && (output.file_name().is_none()
                || output.metadata().is_ok_and(|found| !found.is_file()))
        {
            errors.push(format!(
                "-o {}: expected the path of a regular file",
                output.display()
            ));
        }
        let directory = args.directory.clone().unwrap_or_default();
        let index = IndexOptions {
            filter: PathFilter {
                include: patterns("--include", &args.include, errors),
                exclude: patterns("--exclude", &args.exclude, errors),
            },
            max_depth: args.max_depth,
            limits: get::IndexLimits::default(),
        };
        let mut wanted = Self {
            files: Vec::new(),
            indexes: Vec::new(),
            index,
            directory: directory.clone(),
        };
        if args.recursive {
            wanted.indexes = indexes(&listed, args.directory.as_deref(), errors);
            return wanted;
        }
        let output = args.output.as_deref().filter(|_| listed.len() == 1);
        let named = list::name(listed, output, &directory, errors);
        let has_torrent = named
            .iter()
            .any(|named| !matches!(named.source, GetSource::Web(_)));
        if has_torrent && (args.digest.is_some() || args.range.is_some()) {
            errors.push(
                "--digest and --range do not apply to torrents, which have hashes of their own"
                    .to_owned(),
            );
        }
        let filter = &wanted.index.filter;
        if !has_torrent && !filter.is_empty() {
            errors.push("--include and --exclude apply only to torrents and with -r".to_owned());
        }
        let files = named.into_iter().map(|named| file(named, args, filter));
        wanted.files = files.collect();
        wanted
    }
}

fn file(named: Named, args: &GetArgs, filter: &PathFilter) -> GetFile {
    // Names from lists and URLs are not to be trusted; -o is the caller's own.
    let directory = args.directory.clone().unwrap_or_default();
    let below = args.output.is_none().then_some(directory);
    let output = named.output;
    GetFile {
        source: named.source,
        names_itself: named.names_itself,
        below,
        digest: named.digest.or_else(|| args.digest.clone()),
        range: args.range,
        filter_query: args.filter_query.clone(),
        filter: filter.clone(),
        output,
    }
}

fn indexes(
    listed: &[Listed],
    directory: Option<&Path>,
    errors: &mut Vec<String>,
) -> Vec<(Url, PathBuf)> {
    let mut indexes: Vec<(Url, PathBuf)> = Vec::new();
    for Listed { source, .. } in listed {
        match source.parse::<GetSource>() {
            Ok(GetSource::Web(url)) => {
                let own = || {
                    let mut bare = url.clone();
                    if let Ok(mut segments) = bare.path_segments_mut() {
                        segments.pop_if_empty();
                    }
                    let host = url.host_str().unwrap_or_default().to_owned();
                    PathBuf::from(get::remote_name(&bare).unwrap_or(host))
                };
                let to = directory.map_or_else(own, Path::to_owned);
                indexes.push((url, to));
            }
            Ok(_) => errors.push("-r: expected the URL of a directory listing".to_owned()),
            Err(error) => errors.push(format!("-r: {error}")),
        }
    }
    if indexes.len() > 1 && directory.is_some() {
        errors.push("-r: give one URL for -P DIR, or several without it".to_owned());
    }
    indexes
}

fn patterns(flag: &str, texts: &[String], errors: &mut Vec<String>) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for text in texts {
        match Pattern::new(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => errors.push(format!("{flag} {text}: {error}")),
        }
    }
    patterns
}

/// The options; what is wrong goes to `errors`, and the result then does not count.
fn options(
    args: &GetArgs,
    daemon: Option<DaemonClient>,
    errors: &mut Vec<String>,
) -> anyhow::Result<GetOptions> {
    let source = source_options(args, errors);
    let Supernodes {
        urls,
        are_named,
        join_token_file,
    } = if args.no_swarm {
        Supernodes::default()
    } else {
        of_host::supernodes(&args.supernode, errors)
    };
    if args.no_fallback && urls.is_empty() && daemon.is_none() && errors.is_empty() {
        errors.push("--no-fallback: no supernode is known; give one with --supernode".to_owned());
    }
    if args
        .seed_ratio
        .is_some_and(|ratio| !ratio.is_finite() || ratio < 0.0)
    {
        errors.push("--seed-ratio: expected a number such as 1.5".to_owned());
    }
    let mut supernodes = urls;
    let secret = SecretFile {
        flag: args.join_token_file.clone(),
        configured: join_token_file,
    };
    let join_token = match join_token::given(&secret) {
        Ok(token) => token,
        // The configuration's secret is the service's: others do without the swarm.
        Err(error) if secret.flag.is_none() && !are_named && !args.no_fallback => {
            tracing::warn!("join token not read, downloading directly from the source: {error:#}");
            supernodes.clear();
            None
        }
        Err(error) => return Err(error),
    };
    Ok(GetOptions {
        daemon,
        supernodes,
        are_supernodes_named: are_named,
        join_token,
        source,
        download_rate: args.download_rate.and_then(|rate| rate.0),
        upload_rate: args.upload_rate.and_then(|rate| rate.0),
        min_rate: args.min_rate.and_then(|rate| rate.0).map(|rate| MinRate {
            rate,
            window: MIN_RATE_WINDOW,
        }),
        timeout: args.timeout.map(|time| time.0),
        fallback: !args.no_fallback,
        seeding: Seeding {
            time: args
                .seed_for
                .map(|time| time.0)
                .filter(|time| !time.is_zero()),
            ratio: args.seed_ratio.filter(|ratio| *ratio > 0.0),
        },
        data_dir: args.data_dir.clone().unwrap_or_default(),
        is_data_dir_own: args.data_dir.is_none(),
        parallel: args.parallel,
        peer_listen: args.peer_listen,
        tells_digest: args.json,
    })
}

/// The proxy that runs on this node, if it is to be asked.
async fn daemon(args: &GetArgs, errors: &mut Vec<String>) -> Option<DaemonClient> {
    if let Some(socket) = &args.daemon {
        let connected = DaemonClient::connect(socket).await;
        return connected
            .map_err(|error| errors.push(format!("--daemon: {error}")))
            .ok();
    }
    // Options that the proxy has by its own configuration.
    let asks_for_more = !args.supernode.is_empty()
        || args.download_rate.is_some()
        || args.upload_rate.is_some()
        || args.min_rate.is_some()
        || args.seed_for.is_some()
        || args.seed_ratio.is_some()
        || args.data_dir.is_some()
        || args.peer_listen.is_some();
    if args.no_daemon || args.no_swarm || asks_for_more {
        return None;
    }
    let data_dir = of_host::data_dir_of(Role::Proxy).ok()?;
    // No proxy runs there, or it belongs to another user.
    DaemonClient::connect(&data_dir.join(SOCKET)).await.ok()
}

fn source_options(args: &GetArgs, errors: &mut Vec<String>) -> SourceOptions {
    let mut headers = Vec::new();
    for header in &args.header {
        let pair = header.split_once(':');
        match pair.map(|(name, value)| (name.trim(), value.trim())) {
            Some((name, value)) if is_header(name, value) => {
                headers.push((name.to_owned(), value.to_owned()));
            }
            // The value may be a secret: it is not repeated.
            _ => errors.push("--header: expected 'Name: value'".to_owned()),
        }
    }
    let login = args.user.as_ref().map(|user| {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        Login {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    });
    let defaults = SourceOptions::default();
    SourceOptions {
        headers,
        login,
        netrc: netrc(args, errors),
        ca: args.cacert.clone(),
        insecure: args.insecure,
        connect_timeout: args
            .connect_timeout
            .map_or(defaults.connect_timeout, |time| time.0),
        retries: args.retries,
    }
}

/// RFC 9110 sections 5.6.2 and 5.5.
fn is_header(name: &str, value: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let fits = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
    !name.is_empty() && name.bytes().all(is_token) && value.bytes().all(fits)
}

fn netrc(args: &GetArgs, errors: &mut Vec<String>) -> Netrc {
    if args.no_netrc {
        return Netrc::default();
    }
    if let Some(path) = &args.netrc_file {
        return Netrc::read(path).unwrap_or_else(|error| {
            errors.push(format!("--netrc-file {}: {error}", path.display()));
            Netrc::default()
        });
    }
    let usual = Netrc::usual_path();
    let usual = usual.and_then(|path| Netrc::read(&path).ok());
    usual.unwrap_or_default()
}
