//! Logins at mirrors that are named in the path.

use flotilla_proxy::{Mark, ProxyConfig};

use crate::fakes::origin::Origin;
use crate::fakes::swarm::FakeSwarm;
use crate::fakes::{RunningProxy, proxy};
use crate::layers::send;
use crate::until_marked;

const TAKES_BASIC: &str = "HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Basic realm=\"r\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const NO_CHALLENGE: &str =
    "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const TOKEN: &str = "/flotilla/v1/token?account=u&service=flotilla";

async fn mirror_of(registries: &[&Origin]) -> RunningProxy {
    let hosts = registries
        .iter()
        .map(|origin| format!("http://{}", origin.addr).parse().unwrap());
    let config = ProxyConfig {
        mirror_hosts: hosts.collect(),
        ..ProxyConfig::default()
    };
    proxy(config, FakeSwarm::absent()).await
}

/// What a mirror of `count` registries makes of a request, each of which gives this answer.
async fn marks(mark: Mark, count: usize, answer: &str, method: &str, path: &str, fields: &str) {
    let (one, other) = (Origin::saying(answer).await, Origin::saying(answer).await);
    let proxy = mirror_of(&[&one, &other][..count]).await;
    let path = path.replace("HOST", &one.addr.to_string().replace(':', "__"));
    let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    send(&proxy, request).await;
    until_marked(&proxy.stats, mark).await;
}

pub(crate) async fn login_requested() {
    marks(Mark::LoginRequested, 1, TAKES_BASIC, "GET", "/v2/", "").await;
}

pub(crate) async fn login_missing() {
    marks(Mark::LoginMissing, 1, TAKES_BASIC, "GET", TOKEN, "").await;
}

pub(crate) async fn login_unbound() {
    marks(Mark::LoginUnbound, 2, TAKES_BASIC, "GET", TOKEN, "").await;
}

pub(crate) async fn token_method_refused() {
    let fields = "Content-Length: 0\r\n";
    marks(
        Mark::TokenMethodRefused,
        1,
        TAKES_BASIC,
        "POST",
        TOKEN,
        fields,
    )
    .await;
}

pub(crate) async fn token_scope_refused() {
    let path = format!("{TOKEN}&scope=registry%3Acatalog%3A%2A");
    marks(Mark::TokenScopeRefused, 2, TAKES_BASIC, "GET", &path, "").await;
}

pub(crate) async fn token_misused() {
    let fields = "Authorization: Bearer flotilla.login\r\n";
    let path = "/v2/HOST/team/app/manifests/1";
    marks(Mark::TokenMisused, 1, TAKES_BASIC, "GET", path, fields).await;
}

pub(crate) async fn challenge_malformed() {
    marks(Mark::ChallengeMalformed, 1, NO_CHALLENGE, "GET", TOKEN, "").await;
}
