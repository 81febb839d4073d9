//! The files of the page, part of the program.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get};

const INDEX: &str = include_str!("page/index.html");
const LOGIN: &str = include_str!("page/login.html");
const STYLE: &str = include_str!("page/style.css");
const ICON: &str = include_str!("page/icon.svg");
/// The modules of the script, by name.
const MODULES: [(&str, &str); 5] = [
    ("/page/main.js", include_str!("page/main.js")),
    ("/page/dom.js", include_str!("page/dom.js")),
    ("/page/units.js", include_str!("page/units.js")),
    ("/page/charts.js", include_str!("page/charts.js")),
    ("/page/views.js", include_str!("page/views.js")),
];

/// Nothing but what this host serves: no inline script, no request elsewhere, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What shows data of the cluster.
pub(crate) fn guarded_routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(async || secured(Html(INDEX).into_response())))
}

/// What the login page needs as well.
pub(crate) fn public_routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let mut routes = Router::new()
        .route("/page/style.css", file("text/css; charset=utf-8", STYLE))
        .route("/page/icon.svg", file("image/svg+xml", ICON));
    for (path, text) in MODULES {
        routes = routes.route(path, file("text/javascript; charset=utf-8", text));
    }
    routes
}

/// The login page; `again` after a wrong token.
pub(crate) fn login(again: bool) -> String {
    let alert = if again {
        "<p role=\"alert\" class=\"bad\">That is neither the statistics token nor the join token.</p>"
    } else {
        ""
    };
    LOGIN.replace("<!-- alert -->", alert)
}

/// Adds what browsers have to keep to.
pub(crate) fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let policy = HeaderValue::from_static(POLICY);
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    let nothing = HeaderValue::from_static("no-referrer");
    headers.insert(header::REFERRER_POLICY, nothing);
    let no_sniffing = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, no_sniffing);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn file<S: Clone + Send + Sync + 'static>(
    media_type: &'static str,
    text: &'static str,
) -> MethodRouter<S> {
    get(async move || secured(([(header::CONTENT_TYPE, media_type)], text).into_response()))
}
