//! Cases about the bytes of layers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::Response;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

use crate::fakes::raw_client::get;
use crate::fakes::{DEADLINE, patterned};
use crate::stack::{
    LOGIN, RealRegistry, Scripted, Stack, begin, blob_answer, path_of, push_blob, withholding,
};

#[tokio::test(flavor = "multi_thread")]
async fn case_05_a_range_past_the_end_has_a_whole_answer() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    let blob = patterned(2_000_000);
    push_blob(&stack, "team/app", &blob).await;
    let fields = format!("{LOGIN}Range: bytes={}-\r\n", blob.len());
    // Cold, then warm. The registry itself announces more body than it sends.
    for _ in 0..2 {
        let answer = stack.ask("GET", &path_of(&blob), &fields, b"").await;
        assert_eq!(answer.status(), 416);
        assert_eq!(answer.field("content-range"), Some("bytes */2000000"));
        let length = answer.field("content-length").unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), answer.body.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_06_single_ranges_are_exact() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    let blob = patterned(3_000_000);
    push_blob(&stack, "team/app", &blob).await;
    let length = blob.len();
    for _ in 0..2 {
        for (range, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=1048570-1048590", 1_048_570..1_048_591),
            ("bytes=2500000-", 2_500_000..length),
            ("bytes=-7", length - 7..length),
            ("bytes=-9000000", 0..length),
            ("bytes=2999999-99999999", 2_999_999..length),
        ] {
            let fields = format!("{LOGIN}Range: {range}\r\n");
            let answer = stack.ask("GET", &path_of(&blob), &fields, b"").await;
            assert_eq!(answer.status(), 206, "{range}");
            let (first, last) = (expected.start, expected.end - 1);
            let content_range = format!("bytes {first}-{last}/{length}");
            assert_eq!(answer.field("content-range"), Some(content_range.as_str()));
            assert!(answer.body == blob[expected], "{range}");
        }
        for range in ["bytes=9-3", "pieces=0-1", "bytes=a-b", "bytes="] {
            let fields = format!("{LOGIN}Range: {range}\r\n");
            let direct = stack.ask_direct("GET", &path_of(&blob), &fields, b"").await;
            let answer = stack.ask("GET", &path_of(&blob), &fields, b"").await;
            assert_eq!(answer.status(), direct.status(), "{range}");
            // The registry's own 416 is not whole: case 5.
            assert!(
                answer.status() == 416 || answer.body == direct.body,
                "{range}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_07_several_ranges_are_the_registry_s() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    let blob = patterned(2_000_000);
    push_blob(&stack, "team/app", &blob).await;
    assert!(stack.ask("GET", &path_of(&blob), LOGIN, b"").await.body == blob);
    let fields = format!("{LOGIN}Range: bytes=0-4,1000000-1000003\r\n");
    let direct = stack.ask_direct("GET", &path_of(&blob), &fields, b"").await;
    let answer = stack.ask("GET", &path_of(&blob), &fields, b"").await;
    assert_eq!(answer.status(), direct.status());
    assert_eq!(answer.status(), 206);
    assert!(
        answer
            .field("content-type")
            .unwrap()
            .starts_with("multipart/byteranges")
    );
    let has = |part: &[u8]| answer.body.windows(part.len()).any(|window| window == part);
    assert!(has(&blob[..5]) && has(&blob[1_000_000..1_000_004]));
}

#[tokio::test(flavor = "multi_thread")]
async fn case_10_signed_redirects_are_followed_without_credentials() {
    let blob = Arc::new(patterned(2_500_000));
    let stored = Arc::clone(&blob);
    // As S3 does: credentials beside the signature are an error.
    let store = Scripted::start(move |parts| {
        let is_signed = parts.uri.query() == Some("sig=a%2Fb%3D");
        if parts.headers.contains_key("authorization") || !is_signed {
            return Response::builder().status(400).body(Body::empty()).unwrap();
        }
        blob_answer(parts, &stored)
    })
    .await;
    let location = format!("http://{}/bucket/layer?sig=a%2Fb%3D", store.addr);
    let signed = location.clone();
    let registry = Scripted::start(move |parts| {
        let is_let_in = parts.headers.contains_key("authorization");
        let answer = Response::builder();
        let answer = if is_let_in {
            answer.status(307).header("location", &signed)
        } else {
            answer.status(401)
        };
        answer.body(Body::empty()).unwrap()
    })
    .await;
    let stack = Stack::before(registry.addr).await;
    for _ in 0..2 {
        let answer = stack.ask("GET", &path_of(&blob), LOGIN, b"").await;
        assert_eq!(answer.status(), 200);
        assert!(answer.body == *blob);
    }
    let seen = store.seen();
    let (probes, whole): (Vec<_>, Vec<_>) = seen
        .iter()
        .partition(|parts| parts.headers.get("range").is_some());
    assert_eq!(whole.len(), 1, "the store sends it once");
    assert!(
        probes
            .iter()
            .all(|parts| parts.headers["range"] == "bytes=0-0"),
        "beyond that, it says that it would"
    );
    assert_eq!(
        stack.ask("GET", &path_of(&blob), "", b"").await.status(),
        401
    );
    // In passing through it is the client's to follow, byte for byte.
    let answer = stack.ask("HEAD", &path_of(&blob), LOGIN, b"").await;
    assert_eq!(
        (answer.status(), answer.field("location")),
        (307, Some(location.as_str()))
    );
    let followed = get(stack.proxy.addr, &location, "").await;
    assert!(followed.body == *blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_10_a_signature_that_expires_midway_is_asked_for_anew() {
    let blob = Arc::new(patterned(2_500_000));
    let (stored, total) = (Arc::clone(&blob), blob.len());
    // The first signature is good for one request, which breaks off in the middle.
    let store = Scripted::start(move |parts| {
        let (signature, range) = (parts.uri.query(), parts.headers.get("range"));
        match (signature, range) {
            (Some("sig=1"), None) => {
                let half = Bytes::copy_from_slice(&stored[..total / 2]);
                let broken = Err(std::io::Error::other("broken on purpose"));
                Response::builder()
                    .header("content-length", total)
                    .body(Body::from_stream(stream::iter([Ok(half), broken])))
                    .unwrap()
            }
            (Some("sig=1"), Some(_)) | (None, _) => {
                Response::builder().status(403).body(Body::empty()).unwrap()
            }
            _ => blob_answer(parts, &stored),
        }
    })
    .await;
    let location = format!("http://{}/bucket/layer?sig=", store.addr);
    let signed = Arc::new(AtomicUsize::new(0));
    let registry = Scripted::start(move |_| {
        let number = signed.fetch_add(1, Ordering::SeqCst) + 1;
        Response::builder()
            .status(307)
            .header("location", format!("{location}{number}"))
            .body(Body::empty())
            .unwrap()
    })
    .await;
    let stack = Stack::before(registry.addr).await;
    let answer = stack.ask("GET", &path_of(&blob), LOGIN, b"").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.body == *blob);
    let whole = store.seen();
    let whole = whole
        .iter()
        .filter(|parts| !parts.headers.contains_key("range"));
    assert_eq!(whole.count(), 1, "the store sends no byte twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_11_blobs_are_never_encoded() {
    let blob = Arc::new(patterned(1_500_000));
    let stored = Arc::clone(&blob);
    let registry = Scripted::start(move |parts| {
        let accepts = parts.headers.get("accept-encoding");
        if accepts.is_some_and(|coding| coding != "identity") {
            return Response::builder()
                .header("content-encoding", "gzip")
                .body(Body::from("encoded"))
                .unwrap();
        }
        blob_answer(parts, &stored)
    })
    .await;
    let stack = Stack::before(registry.addr).await;
    let fields = "Accept-Encoding: zstd;q=1.0, gzip;q=0.8\r\n";
    for fields in [fields.to_owned(), format!("{fields}Range: bytes=0-\r\n")] {
        let answer = stack.ask("GET", &path_of(&blob), &fields, b"").await;
        assert_eq!(answer.field("content-encoding"), None);
        assert!(answer.body == *blob);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_17_a_slow_reader_costs_bounded_memory_and_slows_no_other() {
    let blob = Arc::new(patterned(64 << 20));
    let stored = Arc::clone(&blob);
    let registry = Scripted::start(move |parts| blob_answer(parts, &stored)).await;
    let stack = Stack::before(registry.addr).await;
    let (head, mut slow) = begin(&stack, &path_of(&blob)).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // Another one gets all of it meanwhile.
    let fast = stack.ask("GET", &path_of(&blob), LOGIN, b"").await;
    assert!(fast.body == *blob);
    let taken = stack.proxy.stats.counts().swarm_bytes - blob.len() as u64;
    assert!(
        taken < 16 << 20,
        "{taken} bytes are held for a client that reads nothing"
    );
    let mut body = Vec::new();
    slow.read_to_end(&mut body).await.unwrap();
    assert!(body == *blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_18_a_client_that_vanishes_takes_nothing_with_it() {
    let blob = Arc::new(patterned(6 << 20));
    let (release, up_to) = watch::channel(2 << 20);
    let registry = withholding(&blob, &up_to).await;
    let stack = Stack::before(registry.addr).await;
    let path = path_of(&blob);
    let (_, vanishing) = begin(&stack, &path).await;
    let (_, mut staying) = begin(&stack, &path).await;
    drop(vanishing);
    let mut body = vec![0; 1 << 20];
    staying.read_exact(&mut body).await.unwrap();
    release.send(blob.len()).unwrap();
    staying.read_to_end(&mut body).await.unwrap();
    assert!(body == *blob);
    assert!(stack.ask("GET", &path, LOGIN, b"").await.body == *blob);
    assert_eq!(registry.whole_gets(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_19_ten_clients_share_one_download_and_are_asked_for_one_by_one() {
    let blob = Arc::new(patterned(8 << 20));
    let (release, up_to) = watch::channel(1 << 20);
    let registry = withholding(&blob, &up_to).await;
    let stack = Stack::before(registry.addr).await;
    let path = path_of(&blob);
    let clients = (0..10).map(|client| {
        let fields = format!("Authorization: Basic user-{client}\r\n");
        let (stack, path) = (&stack, &path);
        async move { stack.ask("GET", path, &fields, b"").await }
    });
    let releasing = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        release.send(blob.len()).unwrap();
    };
    let (answers, ()) = tokio::join!(join_all(clients), releasing);
    for answer in answers {
        assert_eq!(answer.status(), 200);
        assert!(answer.body == *blob);
    }
    assert_eq!(registry.whole_gets(), 1);
    let callers: std::collections::HashSet<_> = registry
        .seen()
        .iter()
        .map(|parts| parts.headers["authorization"].clone())
        .collect();
    assert_eq!(
        callers.len(),
        10,
        "each caller is authorized by the registry"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn case_20_empty_and_tiny_blobs_are_whole() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    for blob in [&b""[..], b"{}", b"{\"a\":1}"] {
        push_blob(&stack, "team/app", blob).await;
        for _ in 0..2 {
            let answer = stack.ask("GET", &path_of(blob), LOGIN, b"").await;
            assert_eq!(answer.status(), 200);
            let length = blob.len().to_string();
            assert_eq!(answer.field("content-length"), Some(length.as_str()));
            assert_eq!(answer.body, blob);
            assert_eq!(
                stack.ask("GET", &path_of(blob), "", b"").await.status(),
                401
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_21_an_answer_begins_before_the_layer_has_arrived() {
    let blob = Arc::new(patterned(8 << 20));
    let (release, up_to) = watch::channel(3 << 20);
    let registry = withholding(&blob, &up_to).await;
    let stack = Stack::before(registry.addr).await;
    let begun = tokio::time::timeout(DEADLINE, begin(&stack, &path_of(&blob))).await;
    let (head, mut body) = begun.expect("the head does not wait for the layer");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut first = vec![0; 2 << 20];
    let read = tokio::time::timeout(DEADLINE, body.read_exact(&mut first)).await;
    read.expect("bytes do not wait for the layer").unwrap();
    assert!(first == blob[..2 << 20]);
    release.send(blob.len()).unwrap();
    body.read_to_end(&mut first).await.unwrap();
    assert!(first == *blob);
}

#[tokio::test(flavor = "multi_thread")]
async fn extra_odd_digests_and_paths_are_for_the_registry_to_judge() {
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    let blob = patterned(1_200_000);
    let digest = push_blob(&stack, "team/app", &blob).await;
    for path in [
        format!("/v2/team/app/blobs/{}", digest.to_uppercase()),
        "/v2/team/app/blobs/sha256:abc".to_owned(),
        format!("/v2/team%2Fapp/blobs/{digest}"),
        format!("/v2//team/app/blobs/{digest}"),
        format!("/v2/team/app/blobs/{digest}?x=1"),
        format!("/v2/team/app/blobs/sha512:{}", "0b".repeat(64)),
    ] {
        let direct = stack.ask_direct("GET", &path, LOGIN, b"").await;
        let answer = stack.ask("GET", &path, LOGIN, b"").await;
        assert_eq!(answer.status(), direct.status(), "{path}");
        assert!(answer.body == direct.body, "{path}");
    }
}
