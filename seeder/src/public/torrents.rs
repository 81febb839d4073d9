//! Torrents that strangers may have: those that members register, and the layers of open
//! repositories.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Json, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use flotilla_client::SwarmState;
use flotilla_cluster::messages::paths;
use flotilla_cluster::messages::swarms::{OpenRequest, OpenResponse, RegisteredTorrent};
use flotilla_torrents::{ContentId, Digest, InfoHash, Metainfo};
use url::Url;

use crate::api::state::Api;
use crate::reply::refusal;
use crate::swarms::sealed_torrent;

/// A layer that takes longer is opened when a client asks for its torrent.
const MAX_INGEST: Duration = Duration::from_secs(60 * 60);

/// For members: strangers are let into the swarms of their torrents.
pub(crate) fn members_routes() -> Router<Arc<Api>> {
    let register = post(register).layer(DefaultBodyLimit::max(Metainfo::MAX_BYTES));
    Router::new()
        .route(paths::TORRENTS, register)
        .route(paths::TORRENT, delete(unregister))
}

/// For all clients: the torrents of public layers.
pub(crate) fn public_routes() -> Router<Arc<Api>> {
    Router::new().route("/torrents/{file}", get(layer_torrent))
}

async fn register(State(api): State<Arc<Api>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return refusal(rejection.status(), &rejection.body_text()),
    };
    let read = tokio::task::spawn_blocking(move || {
        Metainfo::from_bytes(&body).map(|torrent| torrent.info_hash())
    });
    let info_hash = match read.await {
        Ok(Ok(info_hash)) => info_hash,
        Ok(Err(error)) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    if !api.public_swarms.register(Instant::now(), info_hash) {
        let reason = "too many torrents are registered here";
        return refusal(StatusCode::INSUFFICIENT_STORAGE, reason);
    }
    Json(RegisteredTorrent { info_hash }).into_response()
}

async fn unregister(State(api): State<Arc<Api>>, Path(info_hash): Path<String>) -> Response {
    let Ok(info_hash) = info_hash.parse::<InfoHash>() else {
        let reason = "a torrent is named by 40 hexadecimal digits";
        return refusal(StatusCode::BAD_REQUEST, reason);
    };
    if !api.public_swarms.unregister(&info_hash) {
        return refusal(StatusCode::NOT_FOUND, "no such torrent is registered here");
    }
    api.tracker.with(|members| members.remove(&info_hash));
    Json(RegisteredTorrent { info_hash }).into_response()
}

/// `GET /torrents/sha256:….torrent`. A closed layer and a missing one give the same answer.
async fn layer_torrent(
    State(api): State<Arc<Api>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    let none = || refusal(StatusCode::NOT_FOUND, "no torrent of this name is public");
    let digest = file.strip_suffix(".torrent").map(str::parse::<Digest>);
    let Some(Ok(digest)) = digest else {
        return none();
    };
    let Some(torrent) = open(&api, &digest).await else {
        return none();
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    match torrent.with_sources(trackers(&api, host), Vec::new(), None) {
        Ok(torrent) => torrent_response(&torrent),
        Err(error) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

pub(crate) fn torrent_response(torrent: &Metainfo) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/x-bittorrent")];
    (headers, torrent.to_bytes()).into_response()
}

/// This supernode's trackers, by the name that the asker knows it by.
fn trackers(api: &Api, host: Option<&str>) -> Vec<Vec<String>> {
    let by_name = host.and_then(|host| Url::parse(&format!("http://{host}/announce")).ok());
    // A name and a port, and nothing else that a URL may have.
    let by_name = by_name.filter(|url| {
        url.path() == "/announce"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    let by_address = || Url::parse(&format!("http://{}/announce", api.listen)).ok();
    let Some(http) = by_name.or_else(by_address) else {
        return Vec::new();
    };
    let udp = api.udp_port.get().zip(http.host_str());
    let udp = udp.map(|(port, host)| vec![format!("udp://{host}:{port}/announce")]);
    [vec![http.to_string()]].into_iter().chain(udp).collect()
}

/// Notes an opening that makes a layer open. It is then given to strangers as soon as it is whole.
pub(crate) async fn note_open(api: &Arc<Api>, request: &OpenRequest, answer: &OpenResponse) {
    let OpenResponse::Open(descriptor) = answer else {
        return;
    };
    let (Ok(url), Some(digest)) = (Url::parse(&request.url), request.digest.clone()) else {
        return;
    };
    if !api.opener.public_layers.note(&url, &digest).await {
        return;
    }
    let Some(handle) = api.opener.running(&descriptor.swarm) else {
        return;
    };
    let api = Arc::clone(api);
    tokio::spawn(async move {
        let mut status = handle.watch();
        let settled = async {
            let is_settled = status
                .wait_for(|status| status.complete || matches!(status.state, SwarmState::Void(_)));
            is_settled.await.is_ok()
        };
        if tokio::time::timeout(MAX_INGEST, settled).await == Ok(true) {
            open(&api, &digest).await;
        }
    });
}

/// Opens what an earlier run had opened.
pub(crate) async fn open_known(api: Arc<Api>) {
    for content in api.opener.public_layers.all() {
        if let Some(digest) = content.digest() {
            open(&api, &digest).await;
        }
    }
}

/// The torrent of a layer that is public and whole: strangers are then let in, at
/// the tracker and at the peer port.
async fn open(api: &Arc<Api>, digest: &Digest) -> Option<Metainfo> {
    let opener = &api.opener;
    if !opener.public_layers.is_open(&ContentId::blob(digest)) {
        return None;
    }
    let handle = opener.whole(digest).await?;
    let sealed = handle.clone();
    let torrent = tokio::task::spawn_blocking(move || sealed_torrent(&sealed.piece_map(), &sealed));
    let torrent = torrent.await.ok()?.ok()?;
    if let Err(error) = opener.engine.open_to_strangers(&handle, &torrent) {
        tracing::warn!(%digest, %error, "layer not opened to public peers");
        return None;
    }
    api.public_swarms.seed(torrent.info_hash(), handle.swarm());
    Some(torrent)
}
