//! Serves a program's metrics to Prometheus, behind the same limits as the cluster API.

use axum::Router;
use axum::http::header;
use axum::routing::get;
use flotilla_cluster::exposition::CONTENT_TYPE;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::server::ApiServer;

/// Answers `GET /metrics` with what `text` gives, until `shutdown`.
pub async fn serve_metrics<F>(listener: TcpListener, text: F, shutdown: CancellationToken)
where
    F: Fn() -> String + Clone + Send + Sync + 'static,
{
    let answer = async move || ([(header::CONTENT_TYPE, CONTENT_TYPE)], text());
    let router = Router::new().route("/metrics", get(answer));
    ApiServer::new(listener, router).serve(shutdown).await;
}
