//! Who may look.

use axum::http::{StatusCode, header};

use crate::cluster::{Cluster, JOIN_TOKEN, STATS_TOKEN};

/// A name that leads to loopback, as a foreign web page could have one.
const FOREIGN: &str = "elsewhere.test";

#[tokio::test(flavor = "multi_thread")]
async fn from_elsewhere_only_a_token_opens() {
    let cluster = Cluster::start(3 << 20).await;
    let status = async |path: &str, token: &str| {
        let get = cluster.http.get(cluster.url(path));
        let get = get.header(header::HOST, FOREIGN).bearer_auth(token);
        get.send().await.unwrap().status()
    };
    for path in [
        "/",
        "/metrics",
        "/api/v1/totals",
        "/api/v1/swarms",
        "/api/v1/jobs",
        "/api/v1/openapi.json",
        "/api/v1/events",
    ] {
        assert_eq!(
            status(path, "guessed").await,
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
        for token in [JOIN_TOKEN, STATS_TOKEN] {
            assert_eq!(status(path, token).await, StatusCode::OK, "{path}");
        }
        let here = cluster.http.get(cluster.url(path)).send().await.unwrap();
        assert_eq!(here.status(), StatusCode::OK, "{path}");
    }
    // Who may look may not join.
    assert_eq!(
        status("/v1/hello", STATS_TOKEN).await,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_sent_to_the_login_and_stays_logged_in() {
    let cluster = Cluster::start(3 << 20).await;
    let get = |path: &str| {
        cluster
            .http
            .get(cluster.url(path))
            .header(header::HOST, FOREIGN)
    };
    let sent = get("/")
        .header(header::ACCEPT, "text/html,*/*")
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), StatusCode::SEE_OTHER);
    assert_eq!(sent.headers()[header::LOCATION], "/login");
    let page = get("/login").send().await.unwrap().text().await.unwrap();
    assert!(
        page.contains("<form") && !page.contains("role=\"alert\""),
        "{page}"
    );
    let log_in = async |token: &str| {
        let form: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token)
            .finish();
        let post = cluster.http.post(cluster.url("/login")).body(form);
        post.header(header::HOST, FOREIGN).send().await.unwrap()
    };
    let refused = log_in("guessed").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(refused.text().await.unwrap().contains("role=\"alert\""));
    let let_in = log_in(STATS_TOKEN).await;
    assert_eq!(let_in.status(), StatusCode::SEE_OTHER);
    let cookie = let_in.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap();
    for (shown, status) in [
        (cookie.to_owned(), StatusCode::OK),
        (format!("{cookie}0"), StatusCode::UNAUTHORIZED),
    ] {
        let answer = get("/api/v1/totals").header(header::COOKIE, shown);
        assert_eq!(answer.send().await.unwrap().status(), status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_may_load_nothing_from_elsewhere() {
    let cluster = Cluster::start(3 << 20).await;
    for path in [
        "/",
        "/login",
        "/page/main.js",
        "/page/style.css",
        "/page/icon.svg",
    ] {
        let answer = cluster.http.get(cluster.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(
            !policy.contains("http") && !policy.contains("unsafe"),
            "{policy}"
        );
        let text = answer.text().await.unwrap();
        let addresses = text.match_indices("://").count();
        // An SVG names its namespace.
        assert_eq!(
            addresses,
            text.matches("://www.w3.org/2000/svg").count(),
            "{path}"
        );
    }
}
