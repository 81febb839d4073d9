//! Generated requests, sent to the registry itself and through the proxy: no client may see a
//! difference but the permitted ones.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::fakes::patterned;
use crate::fakes::raw_client::RawResponse;
use crate::stack::{LOGIN, MANIFEST, RealRegistry, Stack, push_blob, push_image};

const REQUESTS: usize = 2000;
pub(crate) const SEED_VARIABLE: &str = "FLOTILLA_SEED";

/// Differences that a client may see, each with its reason.
pub(crate) fn permitted(name: &str) -> bool {
    [
        // The moment of the answer.
        "date",
        // The proxy's own hop.
        "connection",
        "transfer-encoding",
        // A security hint for browsers that docker-registry adds to everything.
        "x-content-type-options",
    ]
    .contains(&name)
}

/// Of the generated requests.
pub(crate) fn seed() -> u64 {
    std::env::var(SEED_VARIABLE).map_or(20_261_124, |seed| seed.parse().unwrap())
}

/// One request.
#[derive(Debug)]
struct Asked {
    method: &'static str,
    path: String,
    fields: String,
    body: Vec<u8>,
}

/// What is in the registry.
struct Contents {
    digests: Vec<String>,
    manifest: String,
}

fn generate(random: &mut StdRng, contents: &Contents) -> Asked {
    let digest = contents.digests.choose(random).unwrap();
    let absent = format!("sha256:{:064x}", random.random::<u64>());
    let number = random.random_range(0..4_000_000_u32);
    let path = match random.random_range(0..20) {
        0..=9 => format!("/v2/team/app/blobs/{digest}"),
        10 => format!("/v2/team/app/blobs/{absent}"),
        11 => format!("/v2/team/app/manifests/{}", contents.manifest),
        12 => "/v2/team/app/manifests/1".to_owned(),
        13 => "/v2/team/app/manifests/none".to_owned(),
        14 => format!("/v2/team/app/tags/list?n={}", number % 3),
        15 => "/v2/_catalog".to_owned(),
        16 => "/v2/".to_owned(),
        17 => format!("/v2/team/other/blobs/{digest}"),
        18 => odd_path(random, digest),
        _ => format!("/v2/team/app/referrers/{digest}"),
    };
    let mut fields = String::new();
    match random.random_range(0..10) {
        0 => {}
        1 => fields += "Authorization: Basic d3Jvbmc6d3Jvbmc=\r\n",
        2 => fields += "Authorization: Bearer nonsense\r\n",
        _ => fields += LOGIN,
    }
    if random.random_bool(0.5) {
        fields += &format!("Range: {}\r\n", range(random));
    }
    match random.random_range(0..12) {
        0 => fields += &format!("If-None-Match: \"{digest}\"\r\n"),
        1 => fields += "If-None-Match: \"other\", *\r\n",
        2 => fields += &format!("If-Range: \"{digest}\"\r\n"),
        3 => fields += "If-Range: \"other\"\r\n",
        4 => fields += "If-Modified-Since: Sat, 01 Jan 2050 00:00:00 GMT\r\n",
        5 => fields += &format!("Accept: {MANIFEST}\r\nAccept: */*\r\n"),
        6 => fields += "Accept-Encoding: identity\r\n",
        7 => fields += "X-Empty:\r\nX-Twice: 1\r\nX-Twice: 2\r\n",
        _ => {}
    }
    let method = match random.random_range(0..20) {
        0..=12 => "GET",
        13..=16 => "HEAD",
        17 => "OPTIONS",
        18 => "POST",
        _ => "PUT",
    };
    let body = match method {
        "POST" | "PUT" => patterned(random.random_range(0..50)),
        _ => Vec::new(),
    };
    Asked {
        method,
        path,
        fields,
        body,
    }
}

fn odd_path(random: &mut StdRng, digest: &str) -> String {
    let hex = digest.trim_start_matches("sha256:");
    [
        format!("/v2/team/app/blobs/SHA256:{hex}"),
        format!("/v2/team/app/blobs/sha256:{}", hex.to_uppercase()),
        format!("/v2/team/app/blobs/sha256%3A{hex}"),
        format!("/v2/team%2Fapp/blobs/{digest}"),
        format!("/v2//team/app/blobs/{digest}"),
        format!("/v2/team/app/blobs/{digest}/"),
        format!("/v2/team/app/blobs/{digest}?a=%20&a=b"),
        format!("/v2/TEAM/app/blobs/{digest}"),
        format!("/v2/team/../team/app/blobs/{digest}"),
        "/v2/team/app/blobs/md5:abc".to_owned(),
        "/v2/team/app/manifests/%00".to_owned(),
        "/elsewhere".to_owned(),
    ]
    .choose(random)
    .unwrap()
    .clone()
}

fn range(random: &mut StdRng) -> String {
    let (first, last): (u32, u32) = (
        random.random_range(0..3_000_000),
        random.random_range(0..3_000_000),
    );
    match random.random_range(0..14) {
        0..=3 => format!("bytes={}-{}", first.min(last), first.max(last)),
        4 | 5 => format!("bytes={first}-"),
        6 => format!("bytes=-{first}"),
        7 => format!("bytes={}-{}", first.max(last) + 1, first.min(last)),
        8 => format!("bytes={}-", 50_000_000 + first),
        9 => format!("bytes={first}-18446744073709551616"),
        10 => "bytes=-0".to_owned(),
        11 => format!("items={first}-"),
        12 => "bytes=a-b".to_owned(),
        _ => format!("bytes= {first}-{}", first + 10),
    }
}

/// The fields that a client may look at, in one order.
fn seen_by_clients(response: &RawResponse) -> Vec<String> {
    let mut fields: Vec<String> = response
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .filter(|(name, _)| !permitted(name))
        .map(|(name, value)| format!("{name}: {}", without_upload_state(&value)))
        .collect();
    fields.sort();
    fields
}

/// Uploads get a name of their own each time.
fn without_upload_state(value: &str) -> &str {
    value.split("/uploads/").next().unwrap_or(value)
}

/// The registry's own answer to an unsatisfiable range announces the blob's length and sends
/// an error of a few bytes; ours is whole.
fn is_unsatisfiable(direct: &RawResponse) -> bool {
    direct.status() == 416
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_requests_are_answered_as_by_the_registry() {
    let seed = seed();
    println!("{SEED_VARIABLE}={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let registry = RealRegistry::start().await;
    let stack = Stack::before(registry.addr).await;
    let mut digests = Vec::new();
    for length in [0, 2, 4096, 300_000, 1_100_000, 2_500_000] {
        digests.push(push_blob(&stack, "team/app", &patterned(length)).await);
    }
    let (_, manifest) = push_image(&stack, "team/app", "1", b"layer").await;
    let contents = Contents { digests, manifest };
    // The first requests find the swarm cold, all later ones warm.
    let mut blobs = 0;
    for number in 0..REQUESTS {
        let asked = generate(&mut random, &contents);
        let Asked {
            method,
            path,
            fields,
            body,
        } = &asked;
        println!("{number}: {asked:?}");
        let direct = stack.ask_direct(method, path, fields, body).await;
        let proxied = stack.ask(method, path, fields, body).await;
        assert_eq!(proxied.status(), direct.status(), "{number}: {asked:?}");
        if proxied.field("content-type") == Some("multipart/byteranges") {
            continue;
        }
        if *method == "GET" && is_unsatisfiable(&direct) {
            let range = proxied.field("content-range");
            assert_eq!(range, direct.field("content-range"), "{number}: {asked:?}");
            continue;
        }
        let (seen, expected) = (seen_by_clients(&proxied), seen_by_clients(&direct));
        assert_eq!(seen, expected, "{number}: {asked:?}");
        assert!(
            proxied.body == direct.body,
            "{number}: other body: {asked:?}"
        );
        blobs += usize::from(*method == "GET" && path.contains("/blobs/"));
    }
    let layers = stack.proxy.stats.counts().layers;
    // The others are for the registry to answer: conditions, odd forms, wrong credentials.
    assert!(layers >= 100, "the swarm answered {layers} of {blobs}");
}
