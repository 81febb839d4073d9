//! The tracker over HTTP: `/announce` (BEP 3, 7, 23) and `/scrape` (BEP 48).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use flotilla_torrents::tracker_wire::{
    AnnounceReply, AnnounceRequest, ScrapeRequest, ScrapeResponse,
};

use crate::Membership;

/// Whether a peer may take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Anybody may, in a swarm that is open to strangers.
    Open,
    /// It has shown a ticket.
    Member,
    /// It may not; the reason is told.
    Refused(String),
}

/// Decides on each announce.
pub type Admit = Arc<dyn Fn(&AnnounceRequest) -> Admission + Send + Sync>;

/// A tracker that several tasks share. Cheap to clone.
#[derive(Clone)]
pub struct Tracker {
    membership: Arc<Mutex<Membership>>,
    admit: Admit,
}

impl std::fmt::Debug for Tracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracker").finish_non_exhaustive()
    }
}

impl Tracker {
    /// A tracker that asks `admit` about each announce.
    pub fn new(membership: Membership, admit: Admit) -> Self {
        Self {
            membership: Arc::new(Mutex::new(membership)),
            admit,
        }
    }

    /// `GET /announce` and `GET /scrape`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/announce", get(announce))
            .route("/scrape", get(scrape))
            .with_state(self.clone())
    }

    /// Looks at, or changes, the membership.
    pub fn with<T>(&self, look: impl FnOnce(&mut Membership) -> T) -> T {
        look(
            &mut self
                .membership
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn answer(&self, remote: SocketAddr, query: &str) -> AnnounceReply {
        let request = match AnnounceRequest::from_query(query) {
            Ok(request) => request,
            Err(error) => return AnnounceReply::Failure(error.to_string()),
        };
        let trusted = match (self.admit)(&request) {
            Admission::Open => false,
            Admission::Member => true,
            Admission::Refused(reason) => return AnnounceReply::Failure(reason),
        };
        let source = remote.ip().to_canonical();
        let now = Instant::now();
        AnnounceReply::Peers(self.with(|members| members.announce(now, source, trusted, &request)))
    }
}

async fn announce(
    State(tracker): State<Tracker>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
) -> impl IntoResponse {
    bencoded(
        tracker
            .answer(remote, &query.unwrap_or_default())
            .to_bytes(),
    )
}

async fn scrape(State(tracker): State<Tracker>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let request = match ScrapeRequest::from_query(&query.unwrap_or_default()) {
        Ok(request) => request,
        Err(error) => return bencoded(AnnounceReply::Failure(error.to_string()).to_bytes()),
    };
    let now = Instant::now();
    let entries = tracker.with(|members| {
        request
            .0
            .iter()
            .filter_map(|swarm| members.scrape(now, *swarm))
            .collect()
    });
    bencoded(ScrapeResponse(entries).to_bytes())
}

fn bencoded(bytes: Vec<u8>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain")], bytes)
}
