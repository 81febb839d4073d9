//! What is asked for, once it is understood.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flotilla_cluster::messages::preheats::{PreheatRequest, PreheatShare};
use flotilla_cluster::rendezvous;
use glob::Pattern;

use super::identity::LentAuthorization;
use super::manifest::Platform;
use super::target::Target;

const MAX_IMAGES: usize = 256;
const MAX_PLATFORMS: usize = 32;
const MAX_SUPERNODES: usize = 256;
/// Query parameters that do not name the content.
const MAX_FILTERED: usize = 64;
/// Bytes of a glob of nodes' names.
const MAX_SELECTOR_LENGTH: usize = 1024;

/// A request is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PreheatError(String);

/// A request that is understood.
#[derive(Debug)]
pub(crate) struct Preheat {
    pub(super) targets: Vec<Target>,
    pub(super) platforms: Vec<Platform>,
    share: Option<PreheatShare>,
    /// The nodes that are to have the layers as well.
    nodes: Option<NodeSelector>,
    filter_query: Vec<String>,
    pub(super) lent: Arc<LentAuthorization>,
    /// Layers of the images whose manifests were read, and files.
    wanted: AtomicU64,
}

impl Preheat {
    /// # Errors
    /// An image, a URL or a platform is not understood, or there are too many.
    pub(crate) fn of_request(request: PreheatRequest) -> Result<Self, PreheatError> {
        let PreheatRequest {
            images,
            platforms,
            share,
            nodes,
            filter_query,
        } = request;
        let supernodes = share.as_ref().map_or(0, |share| share.supernodes.len());
        for (count, most, what) in [
            (images.len(), MAX_IMAGES, "images"),
            (platforms.len(), MAX_PLATFORMS, "platforms"),
            (supernodes, MAX_SUPERNODES, "supernodes"),
            (filter_query.len(), MAX_FILTERED, "query parameters"),
        ] {
            if count > most {
                let error = format!("{count} {what}; {most} are the most of one request");
                return Err(PreheatError(error));
            }
        }
        if images.is_empty() {
            return Err(PreheatError("no images".to_owned()));
        }
        Ok(Self {
            targets: parse_all(&images)?,
            platforms: parse_all(&platforms)?,
            share,
            nodes: nodes.as_deref().map(str::parse).transpose()?,
            filter_query,
            lent: Arc::default(),
            wanted: AtomicU64::new(0),
        })
    }

    /// Reads the registry with what the caller lent, for as long as it is taken there.
    pub(crate) fn lend(&self, authorization: String) {
        self.lent.lend(authorization);
    }

    /// The images and files, as people name them.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.targets.iter().map(Target::name)
    }

    /// Query parameters that do not name a file.
    pub(crate) fn filter_query(&self) -> &[String] {
        &self.filter_query
    }

    /// Layers that are to be here, of the images whose manifests were read so far, and files.
    pub(crate) fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Relaxed)
    }

    /// The work begins, or begins again.
    pub(super) fn want_nothing(&self) {
        self.wanted.store(0, Ordering::Relaxed);
    }

    pub(super) fn want(&self, more: usize) {
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        self.wanted.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn want_one_less(&self) {
        self.wanted.fetch_sub(1, Ordering::Relaxed);
    }

    /// The nodes that are to have the layers as well, a glob of their names.
    pub(crate) fn nodes(&self) -> Option<&NodeSelector> {
        self.nodes.as_ref()
    }

    /// Whether nodes ask this supernode first for what they look for by `key`: a digest, or a URL.
    pub(super) fn wants(&self, key: &str) -> bool {
        let Some(share) = &self.share else {
            return true;
        };
        let names = share.supernodes.iter().map(String::as_str);
        let first = rendezvous::ranked(key, names).into_iter().next();
        let first = first.and_then(|index| share.supernodes.get(index));
        first.is_none_or(|first| *first == share.own)
    }
}

fn parse_all<T>(texts: &[String]) -> Result<Vec<T>, PreheatError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let parsed = texts.iter().map(|text| text.parse::<T>());
    parsed
        .map(|parsed| parsed.map_err(|error| PreheatError(error.to_string())))
        .collect()
}

/// Nodes, by a glob of their names: `web-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSelector(Pattern);

impl NodeSelector {
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.matches(name)
    }
}

impl fmt::Display for NodeSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl FromStr for NodeSelector {
    type Err = PreheatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > MAX_SELECTOR_LENGTH {
            let error = format!("a glob of nodes' names has 1 to {MAX_SELECTOR_LENGTH} characters");
            return Err(PreheatError(error));
        }
        let parsed = Pattern::new(text);
        parsed.map(Self).map_err(|error| {
            PreheatError(format!("{text:?} is not a glob of nodes' names: {error}"))
        })
    }
}
