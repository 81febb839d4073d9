//! Redirects of a source: what goes along.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::http::HeaderMap;
use axum::response::Redirect;
use axum::routing::get;
use flotilla_registry::source::{Source, SourceConfig, SourceError};
use futures_util::TryStreamExt as _;
use tokio::net::TcpListener;
use url::Url;

/// Serves `router`; gives its address.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Answers with the names of the request's headers.
fn echo() -> axum::routing::MethodRouter {
    get(async |headers: HeaderMap| {
        let names: Vec<&str> = headers.keys().map(|name| name.as_str()).collect();
        names.join(" ")
    })
}

async fn fetch(url: &str) -> Result<Vec<String>, SourceError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let headers = [
        ("Authorization", "Basic eDp5"),
        ("PRIVATE-TOKEN", "a secret"),
        ("Content-Length", "7"),
        ("Connection", "close"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let source = Source::new(&SourceConfig::default()).unwrap();
    let body = source.open(&Url::parse(url).unwrap(), &headers, 0).await?;
    let bytes: Vec<_> = body.bytes.try_collect().await?;
    let text = String::from_utf8(bytes.concat()).unwrap();
    Ok(text.split(' ').map(str::to_owned).collect())
}

#[tokio::test]
async fn the_callers_headers_stay_with_their_origin() {
    let store = serve(Router::new().route("/echo", echo())).await;
    let away = format!("{store}/echo");
    let router = Router::new()
        .route("/echo", echo())
        .route("/here", get(async || Redirect::temporary("/echo")))
        .route("/away", get(async move || Redirect::temporary(&away)));
    let source = serve(router).await;
    for (path, kept) in [("/echo", true), ("/here", true), ("/away", false)] {
        let names = fetch(&format!("{source}{path}")).await.unwrap();
        for name in ["authorization", "private-token"] {
            assert_eq!(names.iter().any(|n| n == name), kept, "{path}: {names:?}");
        }
        let has_framing = names
            .iter()
            .any(|n| n == "content-length" || n == "connection");
        assert!(!has_framing, "{path}: {names:?}");
        assert!(
            names.iter().any(|n| n == "accept-encoding"),
            "{path}: {names:?}"
        );
    }
}

#[tokio::test]
async fn a_redirect_to_a_link_local_address_is_not_followed() {
    for target in [
        "http://169.254.169.254/x",
        "http://[::ffff:169.254.169.254]/x",
    ] {
        let router = Router::new().route("/", get(async move || Redirect::temporary(target)));
        let source = serve(router).await;
        let refused = fetch(&source).await;
        assert!(matches!(refused, Err(SourceError::Url(_))), "{refused:?}");
    }
}
