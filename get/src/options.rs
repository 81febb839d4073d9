//! What is asked for: files, and how they are got.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use flotilla_client::torrent_files::path_filter::PathFilter;
use flotilla_client::{ByteRange, DaemonClient};
use url::Url;

use crate::files::expected_digest::ExpectedDigest;
use crate::get_source::GetSource;
use crate::http::min_rate::MinRate;
use crate::http::source_client::SourceOptions;

/// How files are got.
#[derive(Clone, Debug)]
pub struct GetOptions {
    /// The proxy that runs on this node, which is asked first: its cache then has the files, too.
    /// Its limits hold, and it seeds as long as it has room.
    pub daemon: Option<DaemonClient>,
    /// The supernodes of the cluster; none: straight from the source.
    pub supernodes: Vec<Url>,
    /// Whether the supernodes were named for this very call: that none of them can be reached
    /// is then an error, and no reason to do without.
    pub are_supernodes_named: bool,
    /// The cluster's secret, when it has one.
    pub join_token: Option<String>,
    /// How sources are asked.
    pub source: SourceOptions,
    /// Limit on bytes per second received.
    pub download_rate: Option<u64>,
    /// Limit on bytes per second sent.
    pub upload_rate: Option<u64>,
    /// A swarm that is slower is left for the source; a source that is slower is given up.
    pub min_rate: Option<MinRate>,
    /// For each file, from its beginning to the end of its download.
    pub timeout: Option<Duration>,
    /// Whether the source is asked when the swarm does not deliver.
    pub fallback: bool,
    /// What is done after completion.
    pub seeding: Seeding,
    /// Where bytes are kept until completion.
    pub data_dir: PathBuf,
    /// Whether the data directory is for this call alone, and removed at its end.
    pub is_data_dir_own: bool,
    /// Files at the same time.
    pub parallel: NonZeroUsize,
    /// Where peers connect to; default: any address, a port of the system's choice.
    pub peer_listen: Option<SocketAddr>,
    /// Whether the SHA-256 of each file is reported.
    pub tells_digest: bool,
}

/// How long a complete file seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seeding {
    /// The longest time. With neither this nor a ratio it does not seed.
    pub time: Option<Duration>,
    /// Until this many times its length was sent.
    pub ratio: Option<f64>,
}

/// One file to get.
#[derive(Clone, Debug)]
pub struct GetFile {
    /// What.
    pub source: GetSource,
    /// The file to make. It appears whole and verified, or not at all; what was there is replaced.
    pub output: PathBuf,
    /// Whether a torrent appears beside `output`, under its own name.
    pub names_itself: bool,
    /// A directory below which nothing is written through a symbolic link, and directories are
    /// made as needed.
    pub below: Option<PathBuf>,
    /// What the file has to be.
    pub digest: Option<ExpectedDigest>,
    /// The part of the content that the file is to hold.
    pub range: Option<ByteRange>,
    /// Query parameters that do not name the content, such as signatures.
    pub filter_query: Vec<String>,
    /// Which files of a torrent, by their paths below its directory.
    pub filter: PathFilter,
}
