//! Answers on the control socket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use flotilla_torrents::ContentId;
use tokio_util::sync::CancellationToken;

use super::fetch::{self, ContentSource};
use super::lines::lines;
use super::socket::{self, SocketError};
use super::{FetchRequest, MAX_NAMED, Named, Outcomes, Pinning, Verified};
use crate::blocking::blocking;
use crate::control::cache::{Cache, CacheReport, Outcome};
use crate::engine::Engine;

/// A request with [`MAX_NAMED`] contents has 100 KB; one with Harbor's largest token 20 KB.
const MAX_REQUEST_BYTES: usize = 512 * 1024;
/// Time that answers have to end when the host stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Control {
    engine: Engine,
    source: Option<Arc<dyn ContentSource>>,
}

/// Offers the control socket of `engine` in its data directory until the engine stops, which
/// waits for that. With a `source` it fetches, too.
///
/// # Errors
/// There can be no socket there; the engine runs all the same.
pub fn offer(engine: &Engine, source: Option<Arc<dyn ContentSource>>) -> Result<(), SocketError> {
    let (listener, file) = socket::bind(engine.store().data_dir())?;
    let shutdown = engine.shutdown().clone();
    let router = router(Control {
        engine: engine.clone(),
        source,
    });
    let overdue = shutdown.clone();
    engine.spawn(async move {
        let stopping = async move {
            shutdown.cancelled_owned().await;
            // Before the directory's lock is given back, which the end of the engine does.
            drop(file);
        };
        let serving = axum::serve(listener, router).with_graceful_shutdown(stopping);
        let overdue = async {
            overdue.cancelled().await;
            tokio::time::sleep(DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            served = serving.into_future() => {
                if let Err(error) = served {
                    tracing::error!(%error, "control socket failed");
                }
            }
            () = overdue => {}
        }
    });
    Ok(())
}

fn router(control: Control) -> Router {
    Router::new()
        .route("/v1/layers", get(layers))
        .route("/v1/layers/remove", post(remove))
        .route("/v1/layers/pin", post(pin))
        .route("/v1/layers/verify", post(verify))
        .route("/v1/fetch", post(fetch))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(control)
}

async fn layers(State(control): State<Control>) -> Json<CacheReport> {
    let cache = Cache::of(&control.engine);
    Json(blocking(move || cache.report()).await)
}

async fn remove(State(control): State<Control>, Json(named): Json<Named>) -> Response {
    each(&control, named.contents, |cache, content| {
        cache.remove(content)
    })
    .await
}

async fn pin(State(control): State<Control>, Json(pinning): Json<Pinning>) -> Response {
    let pinned = pinning.pinned;
    each(&control, pinning.contents, move |cache, content| {
        cache.set_pinned(content, pinned)
    })
    .await
}

async fn each(
    control: &Control,
    contents: Vec<ContentId>,
    act: impl Fn(&Cache, &ContentId) -> Outcome + Send + 'static,
) -> Response {
    if contents.len() > MAX_NAMED {
        return too_many();
    }
    let cache = Cache::of(&control.engine);
    let outcomes = blocking(move || {
        let outcomes = contents.iter().map(|content| act(&cache, content));
        outcomes.collect()
    });
    Json(Outcomes {
        outcomes: outcomes.await,
    })
    .into_response()
}

async fn verify(State(control): State<Control>, Json(named): Json<Named>) -> Response {
    if named.contents.len() > MAX_NAMED {
        return too_many();
    }
    let cache = Cache::of(&control.engine);
    let stop = control.engine.shutdown().child_token();
    lines(move |lines| async move {
        for content in named.contents {
            // Not dropped half way: readers of a damaged layer have to learn of the damage.
            let (cache, stopping) = (cache.clone(), stop.clone());
            let auditing = async move { cache.verify(&content, &stopping).await };
            let mut auditing = tokio::spawn(auditing);
            let audited = tokio::select! {
                audited = &mut auditing => audited,
                () = lines.closed() => {
                    stop.cancel();
                    return;
                }
            };
            let verified = match audited {
                Ok(Ok(Some(audit))) => Verified::Audit(audit),
                Ok(Ok(None)) if stop.is_cancelled() => return,
                Ok(Ok(None)) => Verified::Absent,
                Ok(Err(error)) => Verified::Failed(error.to_string()),
                Err(error) => Verified::Failed(error.to_string()),
            };
            if !lines.send(&verified).await {
                return;
            }
        }
    })
}

async fn fetch(State(control): State<Control>, Json(request): Json<FetchRequest>) -> Response {
    let Control { engine, source } = control;
    let Some(source) = source else {
        let reason = "only a node's proxy fetches, not a supernode";
        return (StatusCode::NOT_IMPLEMENTED, reason).into_response();
    };
    lines(move |lines| async move {
        let stop: CancellationToken = engine.shutdown().clone();
        tokio::select! {
            () = fetch::run(&engine, source.as_ref(), request, &lines) => {}
            () = lines.closed() => {}
            () = stop.cancelled() => {}
        }
    })
}

fn too_many() -> Response {
    let reason = format!("at most {MAX_NAMED} contents in one request");
    (StatusCode::PAYLOAD_TOO_LARGE, reason).into_response()
}
