//! The arguments of `flotilla get`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use flotilla_get::{ByteRange, ExpectedDigest};

use crate::config::units::{Rate, Time};

const EXAMPLES: &str = "\
Examples:
  flotilla get https://files.example/model.bin --supernode http://10.0.0.1:8001
  flotilla get https://files.example/a.iso -o a.iso --digest sha256:9f86… --seed-for 60s
  flotilla get -i list.txt -P downloads -j 8
  flotilla get -r https://files.example/datasets/ -P datasets --include '*.parquet'
  flotilla get dataset.torrent -o dataset --include '*.parquet' --exclude old
  flotilla get 'https://store.example/f?id=7&sig=…' -o f --filter-query sig --json

Ways: through the swarm where there are supernodes, from --supernode, or from /etc/flotilla/flotilla.toml
or [node] address=… in /etc/dragonfly.conf; straight from the source where there are none, or when the
swarm does not deliver.

A proxy that runs on this node is asked before all of them. FILE then shares the bytes of its cache:
as a reflink, or where the disk has none as a hard link, which is read-only: copy it before you change
it. The proxy's own limits hold then.

FILE appears, whole and verified, at the moment of completion, and replaces what was there. An
interrupted download goes on where it was when the same command is run again; when the source has other
content by then (ETag, Last-Modified, length) it begins anew and says so. A source that names neither a
strong ETag nor Last-Modified is gone on with only with --digest.

A list has one URL a line; lines with # at their beginning are comments. After a tab, or indented on the
lines that follow: out=PATH, digest=DIGEST.

Logins for the source: --header, else --user, else in the URL, else netrc. They go to the host of the
URL; a redirect to another host takes along only what netrc has for that one. Through the swarm it is
the supernode that asks the source, with these headers, without proxies and with its own --registry-ca.
Straight from the source http_proxy, https_proxy, all_proxy and no_proxy of the environment count.

JSON events, one a line: started, resumed, restarted, retrying, source_switch, progress, completed,
seeding, failed. Each has event and file.

Exit codes:
  0    every file is complete and verified
  1    failed; stderr says what and what to do
  2    the command line or the configuration is wrong
  3    the content is not what --digest says
  4    the source refuses, or does not have it
  5    --timeout is over, or the source is slower than --min-rate
  130  interrupted
With several files the code is the first failure's; the others are got all the same.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GetArgs {
    /// What to get: http or https URLs, magnet: links, .torrent files or their URLs
    #[arg(value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// File with what to get, one URL a line; - for standard input; repeatable
    #[arg(short, long, value_name = "LIST")]
    pub(crate) input_file: Vec<PathBuf>,

    /// The file to write, for a single URL [default: named as in the URL]
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["remote_name", "recursive"])]
    pub(crate) output: Option<PathBuf>,
    /// Name the file as in the URL; what is done without -o anyway
    #[arg(short = 'O', long)]
    pub(crate) remote_name: bool,
    /// The directory to write into [default: the current one]
    #[arg(short = 'P', long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Files at the same time
    #[arg(short = 'j', long, value_name = "N", default_value = "4")]
    pub(crate) parallel: NonZeroUsize,

    /// Get everything below the directory listings at the URLs (HTML of nginx, Apache and the like, or
    /// nginx's JSON); the same host, below the path of the URL
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// With -r or a torrent: only files whose name or path below the URL, or in the torrent, matches;
    /// repeatable
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// With -r or a torrent: no files or directories whose name or path below the URL, or in the
    /// torrent, matches; repeatable
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// With -r: how deep to go, 0 for the URL's own directory [default: no limit]
    #[arg(long, value_name = "N", requires = "recursive")]
    pub(crate) max_depth: Option<usize>,

    /// The supernodes, separated by commas [default: those of the configuration, or none]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) supernode: Vec<String>,
    /// The control socket of the proxy that runs on this node: it fetches, its cache keeps the
    /// content, and FILE shares the bytes [default: DATA-DIR/control.sock of the configuration when a
    /// proxy answers there and no other option asks for what it does not do]
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["no_daemon", "no_swarm"])]
    pub(crate) daemon: Option<PathBuf>,
    /// Without the proxy that runs on this node
    #[arg(long)]
    pub(crate) no_daemon: bool,
    /// Straight from the source, whatever the configuration says
    #[arg(long, conflicts_with_all = ["supernode", "no_fallback"])]
    pub(crate) no_swarm: bool,
    /// Only through the swarm: fail when it does not deliver
    #[arg(long)]
    pub(crate) no_fallback: bool,
    /// File with the cluster's secret (or set FLOTILLA_JOIN_TOKEN)
    #[arg(long, value_name = "FILE")]
    pub(crate) join_token_file: Option<PathBuf>,

    /// Header for the source, 'Name: value'; repeatable
    #[arg(long, value_name = "HEADER")]
    pub(crate) header: Vec<String>,
    /// Login for the source; without a password, an empty one
    #[arg(short, long, value_name = "USER[:PASSWORD]")]
    pub(crate) user: Option<String>,
    /// Logins by host [default: the file that NETRC names, or ~/.netrc]
    #[arg(long, value_name = "FILE", conflicts_with = "no_netrc")]
    pub(crate) netrc_file: Option<PathBuf>,
    /// Read no netrc file
    #[arg(long)]
    pub(crate) no_netrc: bool,
    /// Certificate authorities of the source, PEM, besides the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Take any certificate from the source
    #[arg(short = 'k', long)]
    pub(crate) insecure: bool,

    /// What the file has to be: sha256:…, sha512:… or md5:…; with --range, what the range has to be
    #[arg(long, value_name = "DIGEST")]
    pub(crate) digest: Option<ExpectedDigest>,
    /// Only these bytes: 0-499, 500- or -500; the file holds nothing else
    #[arg(long, value_name = "A-B", allow_hyphen_values = true)]
    pub(crate) range: Option<ByteRange>,
    /// Query parameters that do not name the content, such as signatures, separated by commas: URLs
    /// that differ in them alone are one swarm, and one download to go on with
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) filter_query: Vec<String>,

    /// Limit on what is received, e.g. 200MB/s [default: unlimited]
    #[arg(long, value_name = "RATE")]
    pub(crate) download_rate: Option<Rate>,
    /// Limit on what is sent to peers, e.g. 20MB/s [default: unlimited]
    #[arg(long, value_name = "RATE")]
    pub(crate) upload_rate: Option<Rate>,
    /// A swarm that delivers less over 10 s is left for the source, with what it has brought; a source
    /// that does is given up
    #[arg(long, value_name = "RATE")]
    pub(crate) min_rate: Option<Rate>,
    /// Time for each file, e.g. 30m [default: unlimited]
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<Time>,
    /// Time for a connection to the source [default: 10s]
    #[arg(long, value_name = "TIME")]
    pub(crate) connect_timeout: Option<Time>,
    /// Further attempts at the source in a row without progress, after 0.5 s, 1 s, 2 s and so on
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) retries: u32,

    /// How long to go on seeding after completion, e.g. 30s [default: 0s]
    #[arg(long, value_name = "TIME")]
    pub(crate) seed_for: Option<Time>,
    /// Seed until so many times the file was sent, or --seed-for is over
    #[arg(long, value_name = "RATIO")]
    pub(crate) seed_ratio: Option<f64>,
    /// Where bytes are kept until completion [default: a hidden directory beside FILE]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address for pieces [default: 0.0.0.0, any port]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) peer_listen: Option<SocketAddr>,

    /// Events for scripts on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
