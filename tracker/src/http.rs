//! The tracker over HTTP: `/announce` (BEP 3, 7, 23) and `/scrape` (BEP 48).

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use flotilla_cluster::messages::node_report::NodeReport;
use flotilla_torrents::tracker_wire::{
    AnnounceReply, AnnounceRequest, ScrapeRequest, ScrapeResponse,
};

use crate::Tracker;

impl Tracker {
    /// `GET /announce` and `GET /scrape`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/announce", get(announce))
            .route("/scrape", get(scrape))
            .with_state(self.clone())
    }

    fn announce_reply(&self, remote: SocketAddr, query: &str, report: Option<&[u8]>) -> Vec<u8> {
        let failure = |reason| AnnounceReply::Failure(reason).to_bytes();
        let request = match AnnounceRequest::from_query(query) {
            Ok(request) => request,
            Err(error) => return failure(error.to_string()),
        };
        match self.announce(remote.ip(), &request, report) {
            Err(reason) => failure(reason),
            Ok(handed_out) if request.compact => handed_out.response.to_bytes(),
            Ok(handed_out) if request.no_peer_id => handed_out.response.to_bytes_in_full(&[]),
            Ok(handed_out) => handed_out.response.to_bytes_in_full(&handed_out.peer_ids),
        }
    }
}

async fn announce(
    State(tracker): State<Tracker>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> impl IntoResponse {
    let report = headers.get(NodeReport::HEADER);
    let report = report.map(axum::http::HeaderValue::as_bytes);
    bencoded(tracker.announce_reply(remote, &query.unwrap_or_default(), report))
}

async fn scrape(State(tracker): State<Tracker>, RawQuery(query): RawQuery) -> impl IntoResponse {
    let request = match ScrapeRequest::from_query(&query.unwrap_or_default()) {
        Ok(request) => request,
        Err(error) => return bencoded(AnnounceReply::Failure(error.to_string()).to_bytes()),
    };
    let entries = request.0.iter().filter_map(|swarm| tracker.scrape(*swarm));
    bencoded(ScrapeResponse(entries.collect()).to_bytes())
}

fn bencoded(bytes: Vec<u8>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain")], bytes)
}
