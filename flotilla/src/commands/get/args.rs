//! The arguments of `flotilla get`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use flotilla_get::{ByteRange, ExpectedDigest};

use crate::config::units::{Rate, Time};

macro_rules! examples {
    () => {
        "\
Examples:
  flotilla get https://files.example/model.bin --supernode http://10.0.0.1:8001
  flotilla get https://files.example/a.iso --digest sha256:9f86… --seed-for 60s
  flotilla get -i list.txt -P downloads -j 8
  flotilla get -r https://files.example/datasets/ --include '*.parquet'
  flotilla get dataset.torrent -o dataset --exclude old
  flotilla get 'https://store.example/f?id=7&sig=…' --filter-query sig --json"
    };
}

const DETAILS: &str = concat!(
    examples!(),
    "

The proxy of this node is asked first, if one runs. Otherwise the bytes come through the swarm when \
supernodes are known: from --supernode, from /etc/flotilla/flotilla.toml, or from [node] address=… in \
/etc/dragonfly.conf. They come directly from the source when there are no supernodes, or when the \
swarm does not deliver.

Through the node's proxy FILE shares the bytes of the proxy's cache: as a reflink, or as a hard link \
where the file system has no reflinks. A hard link is read-only: copy it before you change it. The \
proxy's own limits apply.

FILE appears at the moment of completion, whole and verified, and replaces the previous file. Run the \
same command again to resume an interrupted download. If the source has other content by then (ETag, \
Last-Modified, length), the download starts over and says so. A source with neither a strong ETag nor \
Last-Modified is resumed only with --digest.

A list has one URL a line. Lines that begin with # are comments. After a tab, or indented on the \
following lines: out=PATH, digest=DIGEST.

Logins for the source are taken from --header, then --user, then the URL, then netrc. They are sent \
only to the host of the URL; after a redirect to another host only netrc's login for that host is \
sent. Through the swarm the supernode reads the source, with these headers, without HTTP proxies, and \
with its own --registry-ca. Directly from the source, http_proxy, https_proxy, all_proxy and no_proxy \
of the environment apply.

JSON events, one a line: started, resumed, restarted, retrying, source_switch, progress, completed, \
seeding, failed. Each has event and file.

Exit codes:
  0    every file is complete and verified
  1    failed; stderr says what happened and what to do
  2    the command line or the configuration is wrong
  3    the content does not match --digest
  4    the source refused the request, or does not have the file
  5    --timeout has passed, or the source is slower than --min-rate
  130  interrupted
  With several files the code is that of the first failure. The other files are downloaded all the same."
);

#[derive(Debug, Args)]
#[command(after_help = examples!(), after_long_help = DETAILS)]
pub(crate) struct GetArgs {
    /// http and https URLs, magnet: links, .torrent files or their URLs
    #[arg(value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// File with one URL a line, - for standard input; repeatable
    #[arg(short, long, value_name = "LIST", help_heading = "What")]
    pub(crate) input_file: Vec<PathBuf>,
    /// Download everything below the directory listings
    ///
    /// Listings are HTML of nginx, Apache and the like, or nginx's JSON. Links to other hosts, and to
    /// paths that are not below the URL, are not followed.
    #[arg(short, long, help_heading = "What")]
    pub(crate) recursive: bool,
    /// Download only matching files, with -r or a torrent; repeatable
    ///
    /// The pattern is compared with the name, and with the path below the URL or in the torrent.
    #[arg(long, value_name = "GLOB", help_heading = "What")]
    pub(crate) include: Vec<String>,
    /// Skip matching files and directories, with -r or a torrent; repeatable
    ///
    /// The pattern is compared with the name, and with the path below the URL or in the torrent.
    #[arg(long, value_name = "GLOB", help_heading = "What")]
    pub(crate) exclude: Vec<String>,
    /// Directory levels to descend, with -r [default: no limit]
    ///
    /// 0 is the directory of the URL alone.
    #[arg(long, value_name = "N", requires = "recursive", help_heading = "What")]
    pub(crate) max_depth: Option<usize>,
    /// Only these bytes: 0-499, 500- or -500
    ///
    /// FILE then holds these bytes and no others.
    #[arg(
        long,
        value_name = "A-B",
        allow_hyphen_values = true,
        help_heading = "What"
    )]
    pub(crate) range: Option<ByteRange>,
    /// Expected digest: sha256:…, sha512:… or md5:…
    ///
    /// With --range, of the range.
    #[arg(long, value_name = "DIGEST", help_heading = "What")]
    pub(crate) digest: Option<ExpectedDigest>,
    /// Query parameters that do not name the content
    ///
    /// Such as signatures; separated by commas. URLs that differ only in these are one swarm, and
    /// resume the same download.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        help_heading = "What"
    )]
    pub(crate) filter_query: Vec<String>,

    /// File to write, for a single URL [default: as in the URL]
    #[arg(
        short,
        long,
        value_name = "FILE",
        conflicts_with_all = ["remote_name", "recursive"],
        help_heading = "Where to"
    )]
    pub(crate) output: Option<PathBuf>,
    /// Name the file as in the URL; this is the default
    #[arg(short = 'O', long, help_heading = "Where to")]
    pub(crate) remote_name: bool,
    /// Directory to write into [default: the current one]
    #[arg(short = 'P', long, value_name = "DIR", help_heading = "Where to")]
    pub(crate) directory: Option<PathBuf>,
    /// Directory for incomplete downloads [default: hidden, beside FILE]
    #[arg(long, value_name = "DIR", help_heading = "Where to")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Supernodes, separated by commas [default: the configuration's]
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        help_heading = "Swarm"
    )]
    pub(crate) supernode: Vec<String>,
    /// File with the cluster's secret [default: the configuration's]
    ///
    /// The environment variable FLOTILLA_JOIN_TOKEN can hold the secret itself.
    #[arg(long, value_name = "FILE", help_heading = "Swarm")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// Socket of this node's proxy [default: DATA-DIR/control.sock]
    ///
    /// The proxy downloads, its cache keeps the content, and FILE shares the bytes. Without this option
    /// a running proxy is used, unless it cannot do what the other options say.
    #[arg(
        long,
        value_name = "SOCKET",
        conflicts_with_all = ["no_daemon", "no_swarm"],
        help_heading = "Swarm"
    )]
    pub(crate) daemon: Option<PathBuf>,
    /// Do not ask this node's proxy
    #[arg(long, help_heading = "Swarm")]
    pub(crate) no_daemon: bool,
    /// Download directly from the source
    #[arg(
        long,
        conflicts_with_all = ["supernode", "no_fallback"],
        help_heading = "Swarm"
    )]
    pub(crate) no_swarm: bool,
    /// Fail instead of downloading directly from the source
    #[arg(long, help_heading = "Swarm")]
    pub(crate) no_fallback: bool,
    /// Address for pieces [default: 0.0.0.0, any port]
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Swarm")]
    pub(crate) peer_listen: Option<SocketAddr>,
    /// Time to seed after completion, e.g. 30s [default: 0s]
    #[arg(long, value_name = "TIME", help_heading = "Swarm")]
    pub(crate) seed_for: Option<Time>,
    /// Bytes to upload per byte of the file, at least 0 [default: none]
    ///
    /// Seeding ends when this ratio is reached, or --seed-for has passed.
    #[arg(long, value_name = "RATIO", help_heading = "Swarm")]
    pub(crate) seed_ratio: Option<f64>,

    /// Header for the source, 'Name: value'; repeatable
    #[arg(long, value_name = "HEADER", help_heading = "Source")]
    pub(crate) header: Vec<String>,
    /// Login for the source
    ///
    /// Without a password, the password is empty.
    #[arg(short, long, value_name = "USER[:PASSWORD]", help_heading = "Source")]
    pub(crate) user: Option<String>,
    /// File with logins by host [default: $NETRC, or ~/.netrc]
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "no_netrc",
        help_heading = "Source"
    )]
    pub(crate) netrc_file: Option<PathBuf>,
    /// Read no netrc file
    #[arg(long, help_heading = "Source")]
    pub(crate) no_netrc: bool,
    /// Certificate authorities of the source, PEM
    ///
    /// The system's certificate authorities stay valid beside them.
    #[arg(long, value_name = "FILE", help_heading = "Source")]
    pub(crate) cacert: Option<PathBuf>,
    /// Do not verify the source's certificate
    #[arg(short = 'k', long, help_heading = "Source")]
    pub(crate) insecure: bool,
    /// Time for a connection to the source [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = "Source")]
    pub(crate) connect_timeout: Option<Time>,
    /// Retries in a row without progress
    ///
    /// After 0.5 s, 1 s, 2 s and so on.
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Source")]
    pub(crate) retries: u32,

    /// Files at the same time
    #[arg(
        short = 'j',
        long,
        value_name = "N",
        default_value = "4",
        help_heading = "Limits"
    )]
    pub(crate) parallel: NonZeroUsize,
    /// Limit on what is received, e.g. 200MB/s [default: unlimited]
    #[arg(long, value_name = "RATE", help_heading = "Limits")]
    pub(crate) download_rate: Option<Rate>,
    /// Limit on what is sent to peers, e.g. 20MB/s [default: unlimited]
    #[arg(long, value_name = "RATE", help_heading = "Limits")]
    pub(crate) upload_rate: Option<Rate>,
    /// Lowest acceptable rate, e.g. 1MB/s [default: none]
    ///
    /// When the swarm delivers less over 10 s, the download continues directly from the source with
    /// the pieces that are there. When the source delivers less, the download fails.
    #[arg(long, value_name = "RATE", help_heading = "Limits")]
    pub(crate) min_rate: Option<Rate>,
    /// Time for each file, e.g. 30m [default: unlimited]
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    pub(crate) timeout: Option<Time>,

    /// Print events as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Print errors only
    #[arg(short, long, help_heading = "Output")]
    pub(crate) quiet: bool,
}
