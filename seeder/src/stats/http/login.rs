//! Keeps the page, the API and the metrics from those that may not see them, and lets viewers log in.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use flotilla_cluster::unix_now;
use url::form_urlencoded;

use crate::api::server::Visit;
use crate::reply::refusal;
use crate::stats::access::{COOKIE, LOGIN_LASTS, text};
use crate::stats::page;
use crate::stats::web::Web;

const MAX_LOGIN_BYTES: usize = 4096;

/// Lets those through that may see the page.
pub(in crate::stats) async fn viewers_only(
    State(web): State<Arc<Web>>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    if web.access.may_see(remote, request.version(), headers) {
        // A page stays open: it is no stranger that others may push out.
        if let Some(visit) = request.extensions().get::<Arc<Visit>>() {
            visit.mark_member();
        }
        return next.run(request).await;
    }
    let wants_page = text(headers, header::ACCEPT.as_str())
        .is_some_and(|accepted| accepted.contains("text/html"));
    if wants_page {
        return Redirect::to("/login").into_response();
    }
    let error = "show the statistics token or the join token, as Authorization: Bearer, or log in at /login";
    let mut refused = refusal(StatusCode::UNAUTHORIZED, error);
    let challenge = HeaderValue::from_static("Bearer realm=\"flotilla\"");
    refused
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge);
    refused
}

/// `GET` and `POST /login`.
pub(in crate::stats) fn routes() -> Router<Arc<Web>> {
    Router::new().route(
        "/login",
        get(async || page::secured(Html(page::login(false)).into_response()))
            .post(login)
            .layer(DefaultBodyLimit::max(MAX_LOGIN_BYTES)),
    )
}

async fn login(State(web): State<Arc<Web>>, form: Bytes) -> Response {
    let token = form_urlencoded::parse(&form).find(|(name, _)| name == "token");
    if !token.is_some_and(|(_, token)| web.access.is_token(token.trim())) {
        let page = (StatusCode::UNAUTHORIZED, Html(page::login(true)));
        return page::secured(page.into_response());
    }
    let cookie = format!(
        "{COOKIE}={}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict",
        web.access.cookie(unix_now()),
        LOGIN_LASTS.as_secs()
    );
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}
