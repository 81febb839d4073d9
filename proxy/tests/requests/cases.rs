//! Cases about everything but the bytes of layers.

use axum::body::Body;
use http::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::fakes::raw_client::{RawResponse, exchange, get_from_mirror};
use crate::fakes::{DEADLINE, patterned};
use crate::stack::{LOGIN, MANIFEST, RealRegistry, Scripted, Stack, push_blob, push_image};

/// What has to be the same, with or without the proxy.
fn essence(response: &RawResponse) -> (u16, Vec<Option<String>>, Vec<u8>) {
    let fields = [
        "content-length",
        "content-type",
        "content-range",
        "docker-content-digest",
        "etag",
        "link",
        "www-authenticate",
        "docker-distribution-api-version",
    ];
    let fields = fields.map(|name| response.field(name).map(str::to_owned));
    (response.status(), fields.to_vec(), response.body.clone())
}

async fn assert_same(stack: &Stack, method: &str, path: &str, fields: &str) -> RawResponse {
    let direct = stack.ask_direct(method, path, fields, b"").await;
    let proxied = stack.ask(method, path, fields, b"").await;
    assert_eq!(essence(&proxied), essence(&direct), "{method} {path}");
    proxied
}

#[tokio::test(flavor = "multi_thread")]
async fn case_01_head_is_the_registry_s_and_has_no_body() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    let layer = patterned(2_000_000);
    let (_, manifest) = push_image(&stack, "team/app", "1", &layer).await;
    let digest = push_blob(&stack, "team/app", &layer).await;
    for path in [
        format!("/v2/team/app/blobs/{digest}"),
        format!("/v2/team/app/manifests/{manifest}"),
        "/v2/team/app/manifests/1".to_owned(),
    ] {
        let fields = format!("{LOGIN}Accept: {MANIFEST}\r\n");
        let answer = assert_same(&stack, "HEAD", &path, &fields).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.body.is_empty());
        assert_ne!(answer.field("content-length"), Some("0"));
        let fields = format!("{fields}Range: bytes=0-9\r\n");
        assert_same(&stack, "HEAD", &path, &fields).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_02_a_conditional_request_is_answered_by_the_registry_and_authorized() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    let digest = push_blob(&stack, "team/app", &patterned(2_000_000)).await;
    let path = format!("/v2/team/app/blobs/{digest}");
    // In the cache from here on.
    assert_eq!(stack.ask("GET", &path, LOGIN, b"").await.status(), 200);
    let condition = format!("If-None-Match: \"{digest}\"\r\n");
    let answer = assert_same(&stack, "GET", &path, &format!("{LOGIN}{condition}")).await;
    assert_eq!(answer.status(), 304);
    assert!(answer.body.is_empty());
    assert_eq!(
        assert_same(&stack, "GET", &path, &condition).await.status(),
        401
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn case_03_a_refusal_is_the_registry_s_word_for_word() {
    let body = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no \\u00e9ntry\"}]}\n";
    let registry = Scripted::start(move |_| {
        Response::builder()
            .status(401)
            .header(
                "www-authenticate",
                "Bearer realm=\"http://a/token\",service=\"harbor-registry\"",
            )
            .header("www-authenticate", "Basic realm=\"harbor\"")
            .body(Body::from(body))
            .unwrap()
    })
    .await;
    let stack = Stack::before(registry.addr).await;
    let digest = "0a".repeat(32);
    for path in [
        format!("/v2/a/b/blobs/sha256:{digest}"),
        "/v2/a/b/manifests/1".to_owned(),
    ] {
        let answer = stack.ask("GET", &path, LOGIN, b"").await;
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.text(), body);
        let challenges = answer.head.to_ascii_lowercase();
        let bearer = challenges.find("www-authenticate: bearer").unwrap();
        assert!(bearer < challenges.find("www-authenticate: basic").unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_04_not_found_is_not_remembered() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    push_blob(&stack, "team/app", b"the repository exists").await;
    let blob = patterned(1_500_000);
    let digest = flotilla_torrents::DigestHasher::sha256_of(&blob);
    let path = format!("/v2/team/app/blobs/{digest}");
    let answer = assert_same(&stack, "GET", &path, LOGIN).await;
    assert_eq!(answer.status(), 404);
    assert!(answer.text().contains("BLOB_UNKNOWN"));
    push_blob(&stack, "team/app", &blob).await;
    assert!(stack.ask("GET", &path, LOGIN, b"").await.body == blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_08_uploads_stream_and_keep_their_state() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    let blob = patterned(3_000_000);
    let digest = flotilla_torrents::DigestHasher::sha256_of(&blob);
    let begun = stack
        .ask("POST", "/v2/team/app/blobs/uploads/", LOGIN, b"")
        .await;
    assert_eq!(begun.status(), 202);
    let location: http::Uri = begun.field("location").unwrap().parse().unwrap();
    let path = location.path_and_query().unwrap().as_str();
    let fields = format!("{LOGIN}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n");
    let url = format!("http://{}{path}", stack.registry);
    let head = format!(
        "PATCH {url} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n",
        stack.registry
    );
    let mut stream = TcpStream::connect(stack.proxy.addr).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    for chunk in blob.chunks(70_001) {
        let size = format!("{:x}\r\n", chunk.len());
        stream.write_all(size.as_bytes()).await.unwrap();
        stream.write_all(chunk).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 202"), "{head}");
    assert!(
        head.contains(&format!("Range: 0-{}", blob.len() - 1)),
        "{head}"
    );
    let location = head
        .lines()
        .find_map(|line| line.strip_prefix("Location: "))
        .unwrap();
    let location: http::Uri = location.parse().unwrap();
    let path = location.path_and_query().unwrap();
    let put = stack
        .ask("PUT", &format!("{path}&digest={digest}"), LOGIN, b"")
        .await;
    assert_eq!(put.status(), 201, "{}", put.text());
    let path = format!("/v2/team/app/blobs/{digest}");
    assert!(stack.ask("GET", &path, LOGIN, b"").await.body == blob);
    // Cancelled.
    let begun = stack
        .ask("POST", "/v2/team/app/blobs/uploads/", LOGIN, b"")
        .await;
    let location: http::Uri = begun.field("location").unwrap().parse().unwrap();
    let path = location.path_and_query().unwrap().as_str();
    assert_eq!(stack.ask("DELETE", path, LOGIN, b"").await.status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_09_a_mount_across_repositories_passes() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    let digest = push_blob(&stack, "team/app", b"mounted").await;
    let path = format!("/v2/other/app/blobs/uploads/?from=team%2Fapp&mount={digest}");
    let mounted = stack.ask("POST", &path, LOGIN, b"").await;
    assert_eq!(mounted.status(), 201, "{}", mounted.text());
    assert_eq!(
        mounted.field("docker-content-digest"),
        Some(digest.as_str())
    );
    // What the registry cannot mount becomes an upload.
    let unknown = format!("sha256:{}", "0a".repeat(32));
    let path = format!("/v2/other/app/blobs/uploads/?from=team%2Fapp&mount={unknown}");
    let begun = stack.ask("POST", &path, LOGIN, b"").await;
    assert_eq!(begun.status(), 202, "{}", begun.text());
    assert!(begun.field("location").unwrap().contains("_state="));
}

#[tokio::test(flavor = "multi_thread")]
async fn case_12_hop_by_hop_fields_end_here_and_all_others_pass_in_order() {
    let registry = Scripted::start(|_| Response::new(Body::from("{}"))).await;
    let stack = Stack::before(registry.addr).await;
    let fields = "Accept: b\r\nAccept: a\r\nAccept: c, d\r\nX-Hop: 1\r\nProxy-Authorization: Basic eA==\r\nKeep-Alive: timeout=5\r\nTE: gzip\r\n";
    let url = format!("http://user:secret@{}/v2/", stack.registry);
    let request = format!(
        "GET {url} HTTP/1.1\r\nHost: wrong.test\r\nConnection: close, X-Hop\r\n{fields}\r\n"
    );
    assert_eq!(exchange(stack.proxy.addr, request).await.status(), 200);
    let headers = registry.seen()[0].headers.clone();
    let accept: Vec<_> = headers.get_all("accept").iter().collect();
    assert_eq!(accept, ["b", "a", "c, d"]);
    assert_eq!(headers["host"], stack.registry.to_string());
    for gone in [
        "x-hop",
        "proxy-authorization",
        "keep-alive",
        "te",
        "connection",
    ] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_13_connect_is_a_blind_tunnel_or_a_clean_refusal() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    // As dockerd does with an insecure registry: it hears that this is no TLS.
    let mut stream = TcpStream::connect(stack.proxy.addr).await.unwrap();
    let head = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", stack.registry);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 200");
    stream
        .write_all(b"\x16\x03\x01\x00\x05hello\r\n\r\n")
        .await
        .unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(
        !rest
            .to_ascii_lowercase()
            .contains("content-length: 0\r\n\r\nHTTP"),
        "{rest}"
    );
    assert!(
        rest.contains("HTTP/1.0 400") || rest.contains("HTTP/1.1 400"),
        "{rest}"
    );
    for (target, status) in [("169.254.169.254:443", 403), ("127.0.0.1:1", 502)] {
        let head =
            format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
        assert_eq!(exchange(stack.proxy.addr, head).await.status(), status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_15_ipv6_literals_are_targets_like_others() {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let registry = Scripted::start_on(listener, |_| Response::new(Body::from("six")));
    let stack = Stack::before(registry.addr).await;
    assert_eq!(stack.ask("GET", "/v2/", "", b"").await.text(), "six");
    let port = registry.addr.port();
    let path = format!("/v2/a/manifests/1?ns=%5B::1%5D:{port}");
    let mirrored = get_from_mirror(stack.proxy.addr, &path, "").await;
    assert_eq!(mirrored.text(), "six");
    let seen = registry.seen();
    assert_eq!(seen[0].headers["host"], format!("[::1]:{port}"));
    assert_eq!(seen[1].uri, "/v2/a/manifests/1");
    let zone = "GET http://[fe80::1%25eth0]/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let refused = exchange(stack.proxy.addr, zone).await.status();
    assert!((400..=502).contains(&refused), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_16_heads_of_64_kib_pass_and_endless_ones_are_refused() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    let long = format!("{LOGIN}X-Long: {}\r\n", "x".repeat(64 << 10));
    assert_eq!(stack.ask("GET", "/v2/", &long, b"").await.status(), 200);
    let many: String = (0..150).map(|n| format!("X-Field-{n}: 1\r\n")).collect();
    let answer = stack
        .ask("GET", "/v2/", &format!("{LOGIN}{many}"), b"")
        .await;
    assert_eq!(answer.status(), 200);
    let mut stream = TcpStream::connect(stack.proxy.addr).await.unwrap();
    let endless = format!(
        "GET http://{}/ HTTP/1.1\r\nX: {}",
        stack.registry,
        "x".repeat(600 << 10)
    );
    // The proxy may close before it has read all.
    let _ = stream.write_all(endless.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"));
    assert_eq!(stack.ask("GET", "/v2/", LOGIN, b"").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_22_foreign_layers_and_old_manifests_are_opaque() {
    let foreign = Scripted::start(|_| Response::new(Body::from("foreign"))).await;
    let schema1 = "{\n   \"schemaVersion\": 1,\n   \"signatures\": []\n}";
    let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let digest = format!("sha256:{}", "0b".repeat(32));
    let named = digest.clone();
    let registry = Scripted::start(move |_| {
        Response::builder()
            .header("content-type", signed)
            .header("docker-content-digest", &named)
            .body(Body::from(schema1))
            .unwrap()
    })
    .await;
    let stack = Stack::before(registry.addr).await;
    let accept = format!("Accept: {signed}\r\n");
    let manifest = stack.ask("GET", "/v2/a/manifests/1", &accept, b"").await;
    assert_eq!(manifest.text(), schema1);
    assert_eq!(manifest.field("content-type"), Some(signed));
    // Of the payload without its signatures: nothing that a proxy could compute.
    assert_eq!(
        manifest.field("docker-content-digest"),
        Some(digest.as_str())
    );
    assert_eq!(registry.seen()[0].headers["accept"], signed);
    let url = format!("http://{}/layers/sha256/abc?sig=a%2Fb", foreign.addr);
    let layer = crate::fakes::raw_client::get(stack.proxy.addr, &url, "").await;
    assert_eq!(layer.text(), "foreign");
    assert_eq!(foreign.seen()[0].uri, "/layers/sha256/abc?sig=a%2Fb");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_23_lists_links_and_deletions_are_the_registry_s() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    let mut digests = Vec::new();
    for tag in ["1", "2", "3"] {
        let (_, digest) = push_image(&stack, "team/app", tag, tag.as_bytes()).await;
        digests.push(digest);
    }
    push_blob(&stack, "team/base", b"another repository").await;
    assert_same(&stack, "GET", "/v2/team/app/tags/list?n=1", LOGIN).await;
    let catalog = assert_same(&stack, "GET", "/v2/_catalog?n=1", LOGIN).await;
    assert!(catalog.text().contains("team/app"));
    let link = catalog.field("link").unwrap();
    assert!(link.contains("last=team%2Fapp"));
    let next = link.strip_prefix('<').unwrap().split_once('>').unwrap().0;
    let next = assert_same(&stack, "GET", next, LOGIN).await;
    assert!(next.text().contains("team/base"));
    let referrers = format!("/v2/team/app/referrers/{}?artifactType=a%2Fb", digests[0]);
    assert_same(&stack, "GET", &referrers, LOGIN).await;
    let path = format!("/v2/team/app/manifests/{}", digests[0]);
    assert_eq!(stack.ask("DELETE", &path, LOGIN, b"").await.status(), 202);
    let fields = format!("{LOGIN}Accept: {MANIFEST}\r\n");
    assert_eq!(
        assert_same(&stack, "GET", &path, &fields).await.status(),
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn case_24_everything_else_is_forwarded_or_refused_never_swallowed() {
    let registry = Scripted::start(|_| Response::new(Body::from("package"))).await;
    let stack = Stack::before(registry.addr).await;
    let addr = stack.proxy.addr;
    // apt, HTTP/1.0, a method that registries do not have.
    let url = format!("http://{}/debian/pool/a.deb", registry.addr);
    let old = exchange(addr, format!("GET {url} HTTP/1.0\r\n\r\n")).await;
    assert_eq!((old.status(), old.text()), (200, "package"));
    assert_eq!(stack.ask("PROPFIND", "/x", "", b"").await.status(), 200);
    let upgrade = "Upgrade: websocket\r\n";
    assert_eq!(
        stack.ask("GET", "/socket", upgrade, b"").await.status(),
        200
    );
    assert!(!registry.seen()[2].headers.contains_key("upgrade"));
    let star = "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(addr, star).await.status(), 400);
    let to_itself = crate::fakes::raw_client::get(addr, &format!("http://{addr}/v2/"), "").await;
    assert_eq!(to_itself.status(), 508);
    // One connection, two requests at once, two servers.
    let other = Scripted::start(|_| Response::new(Body::from("other"))).await;
    let both = format!(
        "GET http://{}/a HTTP/1.1\r\nHost: a\r\n\r\nGET http://{}/b HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
        registry.addr, other.addr
    );
    let answers = exchange(addr, both).await;
    let all = format!("{}{}", answers.head, String::from_utf8_lossy(&answers.body));
    assert!(all.find("package").unwrap() < all.find("other").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn case_25_http_2_is_declined_at_once() {
    let registry = Scripted::start(|_| Response::new(Body::empty())).await;
    let stack = Stack::before(registry.addr).await;
    let mut stream = TcpStream::connect(stack.proxy.addr).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    read.expect("the proxy closes").ok();
    assert!(registry.seen().is_empty());
    // By ALPN it is not offered: `interception.rs`.
}
