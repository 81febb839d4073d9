//! `flotilla get -r`: the files below an HTTP directory listing.

use std::path::PathBuf;

use flotilla_client::torrent_files::path_filter::PathFilter;
use flotilla_cluster::{redacted, root_cause};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::index_page::{Entry, entries_of_html, entries_of_json};
use crate::error::GetError;
use crate::events::{GetEvent, Observer, Reporter};
use crate::http::source_client::{SourceClient, SourceFailure, SourceReply, Wanted};

/// How much a listing may hold.
#[derive(Clone, Copy, Debug)]
pub struct IndexLimits {
    /// Files in all directories together.
    pub most_files: usize,
    /// Directories.
    pub most_directories: usize,
    /// Bytes of one page.
    pub longest_page: usize,
}

impl Default for IndexLimits {
    /// 100,000 files, 10,000 directories, 16 MiB: a page of that size has 100,000 entries.
    fn default() -> Self {
        Self {
            most_files: 100_000,
            most_directories: 10_000,
            longest_page: 16 * 1024 * 1024,
        }
    }
}

/// What of a listing is wanted.
#[derive(Clone, Debug, Default)]
pub struct IndexOptions {
    /// Which files, by their paths below the start.
    pub filter: PathFilter,
    /// Directories below the start that are entered: 0 is the start alone.
    pub max_depth: Option<usize>,
    /// How much there may be.
    pub limits: IndexLimits,
}

/// One file of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Where it is.
    pub url: Url,
    /// Its path below the start; plain names only.
    pub path: PathBuf,
}

/// Why a listing was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The source does not give it.
    #[error(transparent)]
    Get(#[from] GetError),
    /// It is no listing.
    #[error("{url}: {what}")]
    Page {
        /// Without what may be secret in it.
        url: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Finds the files below `start`, in order of their paths. Only what is on the same origin below
/// the path of `start` is looked at.
///
/// # Errors
/// A listing cannot be read, or holds more than `options` allow.
pub async fn walk(
    client: &SourceClient,
    start: &Url,
    options: &IndexOptions,
    observer: &Observer,
    shutdown: &CancellationToken,
) -> Result<Vec<IndexEntry>, IndexError> {
    let walking = walk_all(client, start, options, observer);
    match shutdown.run_until_cancelled(walking).await {
        Some(walked) => walked,
        None => Err(GetError::Interrupted.into()),
    }
}

async fn walk_all(
    client: &SourceClient,
    start: &Url,
    options: &IndexOptions,
    observer: &Observer,
) -> Result<Vec<IndexEntry>, IndexError> {
    let mut start = start.clone();
    start.set_query(None);
    start.set_fragment(None);
    if !start.path().ends_with('/') {
        let path = format!("{}/", start.path());
        start.set_path(&path);
    }
    let reporter = Reporter::new(std::path::Path::new(""), observer.clone());
    let mut files = Vec::new();
    let mut waiting = vec![(start.clone(), String::new(), 0_usize)];
    let mut seen = 1_usize;
    while let Some((url, above, depth)) = waiting.pop() {
        for entry in list(client, &url, options.limits.longest_page, &reporter).await? {
            let path = format!("{above}{}", entry.name);
            if options.filter.excludes(&path, &entry.name) {
                continue;
            }
            if entry.is_directory {
                if options.max_depth.is_none_or(|most| depth < most) {
                    seen += 1;
                    waiting.push((entry.url, format!("{path}/"), depth + 1));
                }
            } else if options.filter.includes(&path, &entry.name) {
                files.push(IndexEntry {
                    url: entry.url,
                    path: PathBuf::from(path),
                });
            }
        }
        let IndexLimits {
            most_files,
            most_directories,
            ..
        } = options.limits;
        if files.len() > most_files || seen > most_directories {
            return Err(page_error(
                &start,
                format!("more than {most_files} files or {most_directories} directories"),
            ));
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The entries of one page, which is asked for as often as a file would be.
async fn list(
    client: &SourceClient,
    url: &Url,
    longest: usize,
    reporter: &Reporter,
) -> Result<Vec<Entry>, IndexError> {
    let mut failures = 0;
    loop {
        let failed = match client.open(url, Wanted::default()).await {
            Ok(reply) => match read_page(reply, url, longest).await {
                Ok(entries) => return Ok(entries),
                Err(PageFailure::Passing(reason)) => reason,
                Err(PageFailure::Final(error)) => return Err(error),
            },
            Err(SourceFailure::Passing(reason, _)) => reason,
            Err(SourceFailure::Final(error)) => return Err(error.into()),
        };
        failures += 1;
        if failures > client.retries() {
            return Err(page_error(url, failed));
        }
        let pause = std::time::Duration::from_millis(500) * failures;
        reporter.tell(&GetEvent::Retrying {
            reason: failed,
            seconds: pause.as_secs_f64(),
        });
        tokio::time::sleep(pause).await;
    }
}

enum PageFailure {
    Passing(String),
    Final(IndexError),
}

async fn read_page(
    reply: SourceReply,
    asked: &Url,
    longest: usize,
) -> Result<Vec<Entry>, PageFailure> {
    let fail = |what: &str| PageFailure::Final(page_error(asked, what.to_owned()));
    if reply.status != StatusCode::OK {
        return Err(fail("answered with a part of a page"));
    }
    // Behind a redirect the links would be those of another place.
    let base = reply.url.clone();
    if base.origin() != asked.origin() || base.path() != asked.path() {
        return Err(fail("redirects elsewhere; give the URL that it leads to"));
    }
    let is_json = reply.body.headers().get(CONTENT_TYPE);
    let is_json = is_json.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let mut page = Vec::new();
    let mut body = reply.body;
    loop {
        match body.chunk().await {
            Ok(Some(bytes)) if page.len() + bytes.len() > longest => {
                return Err(fail(&format!("a page of more than {longest} bytes")));
            }
            Ok(Some(bytes)) => page.extend_from_slice(&bytes),
            Ok(None) => break,
            Err(error) => return Err(PageFailure::Passing(root_cause(&error))),
        }
    }
    let mut base = base;
    let _ = base.set_username("");
    let _ = base.set_password(None);
    if is_json {
        entries_of_json(&page, &base).ok_or_else(|| fail("JSON that is no listing of nginx"))
    } else {
        Ok(entries_of_html(&page, &base))
    }
}

fn page_error(url: &Url, what: String) -> IndexError {
    IndexError::Page {
        url: redacted(url),
        what,
    }
}
