//! Trackers over HTTP (BEP 3).

use std::time::Duration;

use flotilla_cluster::root_cause;
use flotilla_torrents::tracker_wire::{AnnounceReply, AnnounceRequest, AnnounceResponse};
use reqwest::redirect::{Attempt, Policy};
use url::Url;

use super::failure::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The whole exchange; busy public trackers take some seconds.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read: more than ten thousand compact peers.
const MAX_REPLY_BYTES: usize = 64 * 1024;
const MAX_REDIRECTS: usize = 5;

/// Announces to the tracker at `url`. `http` is made when it is needed first.
pub(super) async fn announce(
    http: &mut Option<reqwest::Client>,
    url: &Url,
    request: &AnnounceRequest,
) -> Result<AnnounceResponse, Failure> {
    let http = match http {
        Some(http) => http,
        None => http.insert(client().map_err(|e| Failure::Unreachable(root_cause(&e)))?),
    };
    let reply = http.get(announce_url(url, request)).send().await;
    let mut reply = reply.map_err(|e| Failure::Unreachable(root_cause(&e)))?;
    let status = reply.status();
    let mut bytes = Vec::new();
    while let Some(part) = reply
        .chunk()
        .await
        .map_err(|e| Failure::Unreachable(root_cause(&e)))?
    {
        if bytes.len() + part.len() > MAX_REPLY_BYTES {
            return Err(Failure::Malformed(format!(
                "an answer of more than {MAX_REPLY_BYTES} bytes"
            )));
        }
        bytes.extend_from_slice(&part);
    }
    // Some trackers give their failure reason with an error status.
    match AnnounceReply::from_bytes(&bytes) {
        Ok(AnnounceReply::Failure(reason)) => Err(Failure::Refused(reason)),
        Ok(AnnounceReply::Peers(response)) if status.is_success() => Ok(response),
        _ if !status.is_success() => Err(Failure::Unreachable(format!("HTTP status {status}"))),
        Ok(AnnounceReply::Peers(_)) => Err(Failure::Malformed(format!("HTTP status {status}"))),
        Err(error) => Err(Failure::Malformed(error.to_string())),
    }
}

fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .redirect(Policy::custom(follow))
        .build()
}

/// A redirect stays with its scheme: https is not given up, and nothing else is asked.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let from = attempt.previous().last().map(Url::scheme);
    if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("too many redirects")
    } else if from != Some(attempt.url().scheme()) {
        attempt.error("a redirect to another scheme")
    } else {
        attempt.follow()
    }
}

/// The tracker's URL may have a query of its own: the passkey of private trackers.
fn announce_url(url: &Url, request: &AnnounceRequest) -> Url {
    let mut query = request.to_query();
    if let Some(own) = url.query().filter(|own| !own.is_empty()) {
        query = format!("{own}&{query}");
    }
    let mut url = url.clone();
    url.set_query(Some(&query));
    url.set_fragment(None);
    url
}
