//! Asks a torrent's trackers for peers: over HTTP (BEP 3, 7, 23) and UDP (BEP 15), in tiers (BEP 12).
//!
//! The trackers are of somebody else's choice: their answers are bounded, and they are shown without
//! path and query, where private trackers have their passkeys.

mod http;
mod udp;

use std::time::Duration;

use flotilla_torrents::tracker_wire::{AnnounceRequest, AnnounceResponse};
use rand::seq::SliceRandom as _;
use url::Url;

/// Most trackers that are asked: torrents list dozens of dead ones.
const MAX_TRACKERS: usize = 64;

/// A tracker's answer, or why there is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackerError {
    /// There is nobody to ask.
    #[error("the torrent names no tracker with http://, https:// or udp://")]
    NoTracker,
    /// It cannot be reached, or does not answer.
    #[error("tracker {tracker} does not answer: {reason}")]
    Unreachable {
        /// Scheme, host and port.
        tracker: String,
        /// What happened.
        reason: String,
    },
    /// It says no.
    #[error("tracker {tracker} refuses: {reason}")]
    Refused {
        /// Scheme, host and port.
        tracker: String,
        /// In its own words.
        reason: String,
    },
    /// Its answer is none.
    #[error("tracker {tracker} answers nonsense: {reason}")]
    Malformed {
        /// Scheme, host and port.
        tracker: String,
        /// What is wrong.
        reason: String,
    },
    /// None of several answered; what each said.
    #[error("no tracker answered: {}", shown(.0))]
    NoneAnswered(Vec<TrackerError>),
}

fn shown(errors: &[TrackerError]) -> String {
    let errors: Vec<String> = errors.iter().map(TrackerError::to_string).collect();
    errors.join("; ")
}

/// Why one tracker has not answered.
enum Failure {
    Unreachable(String),
    Refused(String),
    Malformed(String),
}

impl Failure {
    fn of(self, tracker: &Url) -> TrackerError {
        let tracker = origin(tracker);
        match self {
            Self::Unreachable(reason) => TrackerError::Unreachable { tracker, reason },
            Self::Refused(reason) => TrackerError::Refused { tracker, reason },
            Self::Malformed(reason) => TrackerError::Malformed { tracker, reason },
        }
    }
}

fn origin(tracker: &Url) -> String {
    let host = tracker.host_str().unwrap_or_default();
    let port = tracker.port_or_known_default();
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}", tracker.scheme())
}

#[derive(Debug)]
enum Tracker {
    Http(Url),
    Udp(Box<udp::UdpTracker>),
}

impl Tracker {
    fn new(url: &str) -> Option<Self> {
        let url = Url::parse(url.trim()).ok().filter(Url::has_host)?;
        match url.scheme() {
            "http" | "https" => Some(Self::Http(url)),
            "udp" => Some(Self::Udp(Box::new(udp::UdpTracker::new(url)?))),
            _ => None,
        }
    }

    fn url(&self) -> &Url {
        match self {
            Self::Http(url) => url,
            Self::Udp(tracker) => tracker.url(),
        }
    }
}

/// The trackers of one torrent, in tiers (BEP 12).
#[derive(Debug)]
pub struct TrackerTiers {
    tiers: Vec<Vec<Tracker>>,
    http: Option<reqwest::Client>,
    /// How long a UDP tracker is waited for at first (BEP 15: 15 s).
    udp_wait: Duration,
}

impl TrackerTiers {
    /// The trackers with these URLs, each tier in random order (BEP 12). URLs that are none, or of
    /// another scheme than http, https and udp, are left out, as is what exceeds 64.
    pub fn new(tiers: &[Vec<String>]) -> Self {
        let mut room = MAX_TRACKERS;
        let mut kept = Vec::new();
        for tier in tiers {
            let mut tier: Vec<Tracker> = tier
                .iter()
                .filter_map(|url| Tracker::new(url))
                .take(room)
                .collect();
            room -= tier.len();
            tier.shuffle(&mut rand::rng());
            if !tier.is_empty() {
                kept.push(tier);
            }
        }
        Self {
            tiers: kept,
            http: None,
            udp_wait: udp::FIRST_TIMEOUT,
        }
    }

    /// Whether there is nobody to ask.
    pub fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }

    /// Asks one tracker after the other, tier by tier, until one answers, which then is the first of
    /// its tier. Each has half a minute; the last one, over UDP, has two. Dropping the future cancels
    /// it, at any time.
    ///
    /// # Errors
    /// None of them gives peers; what each said.
    pub async fn announce(
        &mut self,
        request: &AnnounceRequest,
    ) -> Result<AnnounceResponse, TrackerError> {
        let mut left: usize = self.tiers.iter().map(Vec::len).sum();
        let mut errors = Vec::new();
        for tier in &mut self.tiers {
            for index in 0..tier.len() {
                left -= 1;
                let Some(tracker) = tier.get_mut(index) else {
                    break;
                };
                let answer = match tracker {
                    Tracker::Http(url) => http::announce(&mut self.http, url, request).await,
                    Tracker::Udp(tracker) => {
                        // Who is the only one left is asked with patience.
                        let tries = if left == 0 { udp::MAX_TRIES } else { 1 };
                        tracker.announce(request, self.udp_wait, tries).await
                    }
                };
                match answer {
                    Ok(response) => {
                        if let Some(before) = tier.get_mut(..=index) {
                            before.rotate_right(1);
                        }
                        return Ok(response);
                    }
                    Err(failure) => errors.push(failure.of(tracker.url())),
                }
            }
        }
        match errors.pop() {
            None => Err(TrackerError::NoTracker),
            Some(only) if errors.is_empty() => Err(only),
            Some(last) => {
                errors.push(last);
                Err(TrackerError::NoneAnswered(errors))
            }
        }
    }
}

#[cfg(test)]
mod tests;
