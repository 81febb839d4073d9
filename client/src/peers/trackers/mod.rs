//! Asks a torrent's trackers for peers: over HTTP (BEP 3, 7, 23) and UDP (BEP 15), in tiers (BEP 12).
//!
//! Others choose the trackers: their answers are bounded, and they are shown without
//! path and query, where private trackers have their passkeys.

mod failure;
mod http;
mod udp;

use std::time::Duration;

use flotilla_torrents::tracker_wire::{AnnounceRequest, AnnounceResponse};
use rand::seq::SliceRandom as _;
use url::Url;

pub use self::failure::TrackerError;

/// Most trackers that are asked: torrents list dozens of dead ones.
const MAX_TRACKERS: usize = 64;

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

    /// Whether there is no tracker to ask.
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
                        // The last tracker left gets more time.
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
