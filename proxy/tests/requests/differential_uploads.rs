//! Generated uploads, each at the registry itself and through the proxy: two repositories of one
//! registry go through the same, request by request, and no client may see a difference.

use flotilla_proxy::ProxyConfig;
use flotilla_torrents::DigestHasher;
use http::Uri;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::differential::{SEED_VARIABLE, permitted, seed};
use crate::fakes::patterned;
use crate::fakes::raw_client::{RawResponse, exchange};
use crate::stack::{LOGIN, MANIFEST, QUOTA, RealRegistry, Stack, push_blob};

const HISTORIES: usize = 60;
const STEPS: usize = 16;
const MAX_PART_LENGTH: usize = 150_000;
/// A registry that refuses a body closes without reading it, and its answer may be lost with what
/// it has not read: such a body has to come with the head.
const MAX_REFUSED_LENGTH: usize = 2000;

/// What a client does next.
#[derive(Clone, Debug)]
enum Step {
    Start,
    /// The whole blob at once.
    StartWith {
        part: Part,
        digest: DigestForm,
    },
    Mount {
        exists: bool,
    },
    Send {
        part: Part,
        range: RangeForm,
        to: To,
    },
    Look {
        to: To,
    },
    Finish {
        part: Part,
        digest: DigestForm,
        to: To,
    },
    Cancel {
        to: To,
    },
    PutManifest {
        is_whole: bool,
    },
    HeadBlob,
    DeleteBlob,
    DeleteManifest,
}

/// Bytes of a body.
#[derive(Clone, Debug)]
struct Part {
    length: usize,
    is_chunked: bool,
    login: &'static str,
}

/// Which upload is meant.
#[derive(Clone, Copy, Debug)]
enum To {
    Current,
    /// The current one, as it was called before.
    Former,
    Unknown,
}

#[derive(Clone, Copy, Debug)]
enum RangeForm {
    None,
    Right,
    Bytes,
    Behind,
    Before,
    Nonsense,
}

#[derive(Clone, Copy, Debug)]
enum DigestForm {
    Right,
    OfOtherBytes,
    Nonsense,
    Missing,
}

fn part(random: &mut StdRng) -> Part {
    Part {
        length: *[0, 0, 1, 1000, MAX_PART_LENGTH].choose(random).unwrap(),
        is_chunked: random.random_bool(0.4),
        login: if random.random_bool(0.05) { "" } else { LOGIN },
    }
}

fn to(random: &mut StdRng) -> To {
    match random.random_range(0..20) {
        0 => To::Former,
        1 => To::Unknown,
        _ => To::Current,
    }
}

fn generate(random: &mut StdRng) -> Step {
    let digest = [
        DigestForm::Right,
        DigestForm::Right,
        DigestForm::Right,
        DigestForm::OfOtherBytes,
        DigestForm::Nonsense,
        DigestForm::Missing,
    ];
    let range = [
        RangeForm::None,
        RangeForm::None,
        RangeForm::Right,
        RangeForm::Right,
        RangeForm::Bytes,
        RangeForm::Behind,
        RangeForm::Before,
        RangeForm::Nonsense,
    ];
    match random.random_range(0..24) {
        0..=3 => Step::Start,
        4 => Step::StartWith {
            part: part(random),
            digest: *digest.choose(random).unwrap(),
        },
        5 => Step::Mount {
            exists: random.random_bool(0.7),
        },
        6..=12 => Step::Send {
            part: part(random),
            range: *range.choose(random).unwrap(),
            to: to(random),
        },
        13 | 14 => Step::Look { to: to(random) },
        15..=18 => Step::Finish {
            part: part(random),
            digest: *digest.choose(random).unwrap(),
            to: to(random),
        },
        19 => Step::Cancel { to: to(random) },
        20 => Step::PutManifest {
            is_whole: random.random_bool(0.7),
        },
        21 => Step::HeadBlob,
        22 => Step::DeleteBlob,
        _ => Step::DeleteManifest,
    }
}

/// One of the two repositories, as its client sees it.
struct Side<'a> {
    stack: &'a Stack,
    is_proxied: bool,
    repository: String,
    at: Option<String>,
    formerly: Option<String>,
    /// What the client takes the upload for.
    sent: Vec<u8>,
    /// Whether the registry still waits for more.
    is_open: bool,
    /// The last blob and manifest that were taken.
    blob: String,
    manifest: String,
    /// In another repository.
    elsewhere: &'a str,
}

impl Side<'_> {
    async fn take(&mut self, step: &Step) -> RawResponse {
        let base = format!("/v2/{}", self.repository);
        let uploads = format!("{base}/blobs/uploads/");
        let answer = match step {
            Step::Start => self.ask("POST", &uploads, LOGIN, &[], false).await,
            Step::StartWith { part, digest } => {
                let bytes = patterned(part.length.min(MAX_REFUSED_LENGTH));
                let path = with_digest(&uploads, *digest, &bytes);
                self.ask("POST", &path, part.login, &bytes, part.is_chunked)
                    .await
            }
            Step::Mount { exists } => {
                let absent = format!("sha256:{}", "ab".repeat(32));
                let digest = if *exists { self.elsewhere } else { &absent };
                let path = format!("{uploads}?mount={digest}&from=team/base");
                self.ask("POST", &path, LOGIN, &[], false).await
            }
            Step::Send { part, range, to } => {
                let bytes = self.bytes(
                    part,
                    *to,
                    matches!(range, RangeForm::None | RangeForm::Right),
                );
                let fields = format!("{}{}", part.login, self.content_range(*range, bytes.len()));
                let path = self.place(*to);
                let answer = self
                    .ask("PATCH", &path, &fields, &bytes, part.is_chunked)
                    .await;
                if answer.status() == 202 {
                    self.sent.extend_from_slice(&bytes);
                }
                answer
            }
            Step::Look { to } => self.ask("GET", &self.place(*to), LOGIN, &[], false).await,
            Step::Finish { part, digest, to } => {
                let bytes = self.bytes(part, *to, matches!(digest, DigestForm::Right));
                let whole = [self.sent.as_slice(), &bytes].concat();
                let path = with_digest(&self.place(*to), *digest, &whole);
                let answer = self
                    .ask("PUT", &path, part.login, &bytes, part.is_chunked)
                    .await;
                self.is_open &= answer.status() == 401;
                if answer.status() == 201 {
                    self.blob = DigestHasher::sha256_of(&whole).to_string();
                }
                answer
            }
            Step::Cancel { to } => {
                self.is_open = false;
                self.ask("DELETE", &self.place(*to), LOGIN, &[], false)
                    .await
            }
            Step::PutManifest { is_whole } => self.put_manifest(&base, *is_whole).await,
            Step::HeadBlob => {
                let path = format!("{base}/blobs/{}", self.blob);
                self.ask("HEAD", &path, LOGIN, &[], false).await
            }
            Step::DeleteBlob => {
                let path = format!("{base}/blobs/{}", self.blob);
                self.ask("DELETE", &path, LOGIN, &[], false).await
            }
            Step::DeleteManifest => {
                let path = format!("{base}/manifests/{}", self.manifest);
                self.ask("DELETE", &path, LOGIN, &[], false).await
            }
        };
        self.follow(&answer);
        answer
    }

    fn bytes(&self, part: &Part, to: To, is_wanted: bool) -> Vec<u8> {
        let is_read = self.is_open && is_wanted && matches!(to, To::Current) && part.login == LOGIN;
        let longest = if is_read {
            MAX_PART_LENGTH
        } else {
            MAX_REFUSED_LENGTH
        };
        patterned(part.length.min(longest))
    }

    async fn put_manifest(&mut self, base: &str, is_whole: bool) -> RawResponse {
        let blob = if is_whole { &self.blob } else { self.elsewhere };
        let described =
            serde_json::json!({"mediaType": "application/octet-stream", "digest": blob, "size": 1});
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": [described],
        });
        let manifest = manifest.to_string();
        let fields = format!("{LOGIN}Content-Type: {MANIFEST}\r\n");
        let path = format!("{base}/manifests/1");
        let answer = self
            .ask("PUT", &path, &fields, manifest.as_bytes(), false)
            .await;
        if answer.status() == 201 {
            self.manifest = DigestHasher::sha256_of(manifest.as_bytes()).to_string();
        }
        answer
    }

    /// An answer may say where an upload is, or continues.
    fn follow(&mut self, answer: &RawResponse) {
        let location = answer
            .field("location")
            .filter(|at| at.contains("/uploads/"));
        let Some(location) = location else { return };
        let location: Uri = location.parse().unwrap();
        let at = location.path_and_query().unwrap().to_string();
        let upload = |at: &str| at.split('?').next().map(str::to_owned);
        if self.at.as_deref().and_then(upload) != upload(&at) {
            self.sent.clear();
        }
        self.formerly = self.at.replace(at);
        self.is_open = true;
    }

    fn place(&self, to: To) -> String {
        let uploads = format!("/v2/{}/blobs/uploads/", self.repository);
        let place = match to {
            To::Current => self.at.clone(),
            To::Former => self.formerly.clone(),
            To::Unknown => None,
        };
        place.unwrap_or_else(|| format!("{uploads}6c2ab3a2-2a0b-4d0e-b4b7-d0c1f0a0d0c1?_state=x"))
    }

    fn content_range(&self, form: RangeForm, length: usize) -> String {
        let from = |first: usize| format!("{first}-{}", (first + length).saturating_sub(1));
        let range = match form {
            RangeForm::None => return String::new(),
            RangeForm::Right => from(self.sent.len()),
            RangeForm::Bytes => format!("bytes {}/*", from(self.sent.len())),
            RangeForm::Behind => from(self.sent.len() + 7),
            RangeForm::Before => from(self.sent.len().saturating_sub(7)),
            RangeForm::Nonsense => "seven-eight".to_owned(),
        };
        format!("Content-Range: {range}\r\n")
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        fields: &str,
        body: &[u8],
        is_chunked: bool,
    ) -> RawResponse {
        let registry = self.stack.registry;
        let target = if self.is_proxied {
            format!("http://{registry}{path}")
        } else {
            path.to_owned()
        };
        let to = if self.is_proxied {
            self.stack.proxy.addr
        } else {
            registry
        };
        if !is_chunked {
            return exchange(to, self.stack.request(method, &target, fields, body)).await;
        }
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {registry}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n{fields}\r\n"
        )
        .into_bytes();
        for part in body.chunks(40_000) {
            request.extend(format!("{:x}\r\n", part.len()).bytes());
            request.extend(part);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
        exchange(to, request).await
    }

    /// What a client sees, without the names that differ.
    fn seen(&self, answer: &RawResponse) -> (u16, Vec<String>, String) {
        let fields = answer.head.lines().skip(1);
        let fields = fields.filter_map(|line| line.split_once(':'));
        let mut fields: Vec<String> = fields
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            .filter(|(name, _)| !permitted(name) && name != "docker-upload-uuid")
            .map(|(name, value)| format!("{name}: {}", self.anonymous(value)))
            .collect();
        fields.sort();
        let body = String::from_utf8_lossy(&answer.body);
        (answer.status(), fields, self.anonymous(&body))
    }

    fn anonymous(&self, text: &str) -> String {
        let text = text.replace(&self.repository, "REPOSITORY");
        match text.split_once("/uploads/") {
            Some((before, rest)) => {
                let state = if rest.contains("_state=") {
                    "?_state"
                } else {
                    ""
                };
                format!("{before}/uploads/UPLOAD{state}")
            }
            None => text,
        }
    }
}

fn with_digest(place: &str, form: DigestForm, bytes: &[u8]) -> String {
    let digest = match form {
        DigestForm::Right => DigestHasher::sha256_of(bytes).to_string(),
        DigestForm::OfOtherBytes => DigestHasher::sha256_of(b"other bytes").to_string(),
        DigestForm::Nonsense => "sha256:nonsense".to_owned(),
        DigestForm::Missing => return place.to_owned(),
    };
    let joint = if place.contains('?') { '&' } else { '?' };
    format!("{place}{joint}digest={digest}")
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_uploads_are_answered_as_by_the_registry() {
    let seed = seed();
    println!("{SEED_VARIABLE}={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let registry = RealRegistry::start().await;
    let config = ProxyConfig {
        seed_pushed: true,
        ..ProxyConfig::default()
    };
    let stack = Stack::with(registry.addr, QUOTA, config).await;
    let elsewhere = push_blob(&stack, "team/base", &patterned(5000)).await;
    let mut taken = 0;
    for history in 0..HISTORIES {
        let side = |is_proxied: bool| Side {
            stack: &stack,
            is_proxied,
            repository: format!("{}/r{history}", if is_proxied { "left" } else { "here" }),
            at: None,
            formerly: None,
            sent: Vec::new(),
            is_open: false,
            blob: elsewhere.clone(),
            manifest: format!("sha256:{}", "cd".repeat(32)),
            elsewhere: &elsewhere,
        };
        let (mut direct, mut proxied) = (side(false), side(true));
        for number in 0..STEPS {
            let step = generate(&mut random);
            println!("{history}.{number}: {step:?}");
            let expected = direct.take(&step).await;
            let found = proxied.take(&step).await;
            let (expected, found) = (direct.seen(&expected), proxied.seen(&found));
            assert_eq!(found, expected, "{history}.{number}: {step:?}");
            taken += usize::from(matches!(step, Step::Finish { .. }) && found.0 == 201);
        }
    }
    assert!(taken >= 20, "only {taken} uploads came to their end");
}
