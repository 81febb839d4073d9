//! Tokens of a registry's token service, verified without asking the registry.
//!
//! Harbor's tokens are JWTs (RFC 7519) signed with RS256; their `access` claim names
//! repositories and actions ("Docker Registry v2 Bearer token specification"). A token says
//! what its bearer may do in a repository, not which blobs are in there: that is for
//! [`Authorizer`](crate::authorization::Authorizer) to know.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use data_encoding::BASE64URL_NOPAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;
use webpki::EndEntityCert;
use webpki::ring::RSA_PKCS1_2048_8192_SHA256;

use crate::names::blob_url::BlobUrl;
use crate::names::host::RegistryHost;
use crate::names::repository::Repository;

/// Harbor's tokens for many repositories reach 16 KiB.
const MAX_TOKEN_LENGTH: usize = 64 * 1024;
/// Clocks differ.
const LEEWAY: u64 = 30;

/// The certificate that a registry's token service signs for: `HOST[:PORT]=FILE`, PEM.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenCertificate {
    registry: RegistryHost,
    file: PathBuf,
}

/// A token certificate is not understood.
#[derive(Debug, thiserror::Error)]
#[error("token certificate {0:?} is not HOST[:PORT]=FILE")]
pub struct TokenCertificateError(String);

impl FromStr for TokenCertificate {
    type Err = TokenCertificateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (registry, file) = text.split_once('=')?;
            let registry = registry.parse().ok()?;
            let file = PathBuf::from(file);
            (!file.as_os_str().is_empty()).then_some(Self { registry, file })
        };
        parse().ok_or_else(|| TokenCertificateError(text.to_owned()))
    }
}

impl TryFrom<String> for TokenCertificate {
    type Error = TokenCertificateError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TokenCertificate> for String {
    fn from(certificate: TokenCertificate) -> Self {
        let TokenCertificate { registry, file } = certificate;
        format!("{registry}={}", file.display())
    }
}

/// Verifies tokens of the registries whose token services are known.
#[derive(Clone, Debug, Default)]
pub struct TokenVerifier {
    certificates: Vec<(RegistryHost, CertificateDer<'static>)>,
}

#[derive(serde::Deserialize)]
struct Head {
    alg: String,
}

#[derive(serde::Deserialize)]
struct Claims {
    exp: u64,
    #[serde(default)]
    nbf: u64,
    aud: Audience,
    #[serde(default)]
    access: Vec<Access>,
}

/// RFC 7519 section 4.1.3: one, or several.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(serde::Deserialize)]
struct Access {
    r#type: String,
    name: String,
    actions: Vec<String>,
}

/// The service that Harbor's tokens are for.
const AUDIENCE: &str = "harbor-registry";

impl TokenVerifier {
    /// # Errors
    /// A file cannot be read or holds no certificate; the error names it.
    pub fn new(certificates: &[TokenCertificate]) -> anyhow::Result<Self> {
        let read = certificates
            .iter()
            .map(|TokenCertificate { registry, file }| {
                let shown = || format!("token certificate {}", file.display());
                let certificate = CertificateDer::from_pem_file(file).with_context(shown)?;
                EndEntityCert::try_from(&certificate).with_context(shown)?;
                Ok((registry.clone(), certificate))
            });
        Ok(Self {
            certificates: read.collect::<anyhow::Result<_>>()?,
        })
    }

    /// Whether tokens for the registry of `url` can be verified here at all.
    pub fn knows(&self, url: &Url) -> bool {
        let registry = RegistryHost::of_url(url);
        self.certificates
            .iter()
            .any(|(known, _)| registry.as_ref().is_some_and(|asked| known.means(asked)))
    }

    /// Whether these headers carry a token that lets its bearer pull from the repository of
    /// the blob at `url`, at `now` (seconds since 1970). A token does not say below which path of
    /// its host the repository is: with one, the registry decides.
    pub fn lets_pull(&self, url: &Url, headers: &[(String, String)], now: u64) -> bool {
        let Some(blob) = BlobUrl::of(url).filter(|blob| blob.prefix().is_empty()) else {
            return false;
        };
        let mut tokens = headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        // A caller that sends anything else besides is for the registry to judge.
        let others = headers
            .iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("user-agent"));
        let (Some((_, token)), 1) = (tokens.next(), others.count()) else {
            return false;
        };
        let own = self
            .certificates
            .iter()
            .filter(|(known, _)| known.means(blob.registry().host()));
        let verified = || {
            let (scheme, token) = token.split_once(' ')?;
            let is_bearer = scheme.eq_ignore_ascii_case("bearer");
            let mut certificates = own.map(|(_, certificate)| certificate);
            let claims = certificates.find_map(|certificate| claims(certificate, token.trim()))?;
            Some(is_bearer && claims.let_pull(blob.repository(), now))
        };
        verified().unwrap_or(false)
    }
}

impl Claims {
    fn let_pull(&self, repository: &Repository, now: u64) -> bool {
        let is_for_registry = match &self.aud {
            Audience::One(audience) => audience == AUDIENCE,
            Audience::Several(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
        };
        let lets_pull = self.access.iter().any(|access| {
            access.r#type == "repository"
                && access.name == repository.as_str()
                && access.actions.iter().any(|action| action == "pull")
        });
        is_for_registry && lets_pull && now < self.exp && self.nbf <= now.saturating_add(LEEWAY)
    }
}

/// The claims of a token that the certificate's key has signed (RFC 7515 section 5.2).
fn claims(certificate: &CertificateDer<'_>, token: &str) -> Option<Claims> {
    if token.len() > MAX_TOKEN_LENGTH {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (head, payload) = signed.split_once('.')?;
    let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).ok();
    let head: Head = serde_json::from_slice(&decode(head)?).ok()?;
    // The algorithm is ours to choose: a token that names another one is not verified by it.
    if head.alg != "RS256" {
        return None;
    }
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    certificate
        .verify_signature(
            RSA_PKCS1_2048_8192_SHA256,
            signed.as_bytes(),
            &decode(signature)?,
        )
        .ok()?;
    serde_json::from_slice(&decode(payload)?).ok()
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_700_000_000;
    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const BLOB: &str = "https://harbor.test/v2/team/app/blobs/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn verifier(certificate: &str) -> TokenVerifier {
        let file = format!(
            "harbor.test={}/testdata/{certificate}",
            env!("CARGO_MANIFEST_DIR")
        );
        TokenVerifier::new(&[file.parse().unwrap()]).unwrap()
    }

    fn claims_of(actions: &[&str], name: &str) -> Value {
        json!({
            "iss": "harbor-token-issuer", "sub": "robot$team+ci", "aud": ["harbor-registry"],
            "exp": NOW + 60, "nbf": NOW - 60, "iat": NOW - 60,
            "access": [{"type": "repository", "name": name, "actions": actions}],
        })
    }

    fn encode(value: &Value) -> String {
        BASE64URL_NOPAD.encode(value.to_string().as_bytes())
    }

    fn signed(claims: &Value) -> String {
        let key = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/token-service.key");
        let key = PrivatePkcs8KeyDer::from_pem_file(key).unwrap();
        let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
        let signed = format!(
            "{}.{}",
            encode(&json!({"alg": "RS256", "typ": "JWT"})),
            encode(claims)
        );
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            signed.as_bytes(),
            &mut signature,
        )
        .unwrap();
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    fn lets_pull(verifier: &TokenVerifier, url: &str, token: &str) -> bool {
        let headers = [("Authorization".to_owned(), format!("Bearer {token}"))];
        verifier.lets_pull(&url.parse().unwrap(), &headers, NOW)
    }

    #[test]
    fn a_token_of_the_service_opens_its_repository_and_no_other() {
        let verifier = verifier("token-service.crt");
        let token = signed(&claims_of(&["pull", "push"], "team/app"));
        assert!(lets_pull(&verifier, BLOB, &token));
        for url in [
            format!("https://harbor.test/v2/team/app2/blobs/{DIGEST}"),
            format!("https://harbor.test/v2/team/blobs/{DIGEST}"),
            format!("https://harbor.test/v2/team/app/manifests/{DIGEST}"),
            format!("https://harbor.test/below/v2/team/app/blobs/{DIGEST}"),
            format!("https://other.test/v2/team/app/blobs/{DIGEST}"),
            format!("https://harbor.test:8443/v2/team/app/blobs/{DIGEST}"),
            format!("{BLOB}?x=1"),
            "https://harbor.test/v2/team/app/blobs/sha256:00".to_owned(),
        ] {
            assert!(!lets_pull(&verifier, &url, &token), "{url}");
        }
    }

    /// One request at the registry for a blob in a repository, asked with any token.
    #[tokio::test]
    async fn a_token_spares_the_registry_what_it_has_given_before() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};

        use crate::authorization::Authorizer;
        use crate::source::{Source, SourceConfig};

        let _ = rustls::crypto::ring::default_provider().install_default();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let router = axum::Router::new().fallback(async move || {
            counter.fetch_add(1, Ordering::SeqCst);
            "x"
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let file = format!(
            "{host}={}/testdata/token-service.crt",
            env!("CARGO_MANIFEST_DIR")
        );
        let tokens = TokenVerifier::new(&[file.parse().unwrap()]).unwrap();
        let source = Source::new(&SourceConfig::default()).unwrap();
        let authorizer = Authorizer::for_blobs(source, tokens);
        let caller = |user: &str, name: &str| {
            let mut claims = claims_of(&["pull"], name);
            claims["sub"] = json!(user);
            claims["exp"] = json!(flotilla_cluster::unix_now() + 60);
            claims["nbf"] = json!(0);
            let token = signed(&claims);
            vec![("Authorization".to_owned(), format!("Bearer {token}"))]
        };
        let blob = |name: &str| Url::parse(&format!("http://{host}/v2/{name}/blobs/{DIGEST}"));
        for (what, caller, name, requests) in [
            ("the first asks", caller("a", "team/app"), "team/app", 1),
            (
                "another token does not",
                caller("b", "team/app"),
                "team/app",
                1,
            ),
            (
                "another repository asks",
                caller("a", "team/two"),
                "team/two",
                2,
            ),
            (
                "another's token asks",
                caller("a", "team/two"),
                "team/app",
                3,
            ),
            ("no token asks", Vec::new(), "team/app", 4),
        ] {
            let url = blob(name).unwrap();
            authorizer.check(&url, &caller).await.unwrap();
            assert_eq!(asked.load(Ordering::SeqCst), requests, "{what}");
        }
    }

    #[test]
    fn other_claims_do_not_open_it() {
        let verifier = verifier("token-service.crt");
        let good = claims_of(&["pull"], "team/app");
        assert!(lets_pull(&verifier, BLOB, &signed(&good)));
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            signed(&claims)
        };
        for (what, token) in [
            ("expired", with("exp", json!(NOW))),
            ("too early", with("nbf", json!(NOW + 3600))),
            ("for another service", with("aud", json!("token-service"))),
            ("without access", with("access", json!([]))),
            ("push only", signed(&claims_of(&["push"], "team/app"))),
            ("for all", signed(&claims_of(&["pull"], "*"))),
            ("without expiry", with("exp", Value::Null)),
        ] {
            assert!(!lets_pull(&verifier, BLOB, &token), "{what}");
        }
    }

    #[test]
    fn forged_tokens_do_not_open_it() {
        let service = verifier("token-service.crt");
        let claims = claims_of(&["pull"], "team/app");
        let good = signed(&claims);
        assert!(!lets_pull(&verifier("other-service.crt"), BLOB, &good));
        let (head, rest) = good.split_once('.').unwrap();
        let (payload, signature) = rest.split_once('.').unwrap();
        let other = encode(&claims_of(&["pull"], "team/other"));
        let unsigned = encode(&json!({"alg": "none"}));
        let confused = encode(&json!({"alg": "HS256"}));
        for token in [
            String::new(),
            "...".to_owned(),
            format!("{head}.{other}.{signature}"),
            format!("{unsigned}.{payload}."),
            format!("{unsigned}.{payload}.{signature}"),
            format!("{confused}.{payload}.{signature}"),
            format!("{head}.{payload}."),
            format!("{good}.{signature}"),
            "x".repeat(MAX_TOKEN_LENGTH + 1),
        ] {
            assert!(!lets_pull(&service, BLOB, &token), "{token:.80}");
        }
        let url = BLOB.parse().unwrap();
        let basic = [("Authorization".to_owned(), format!("Basic {good}"))];
        assert!(!service.lets_pull(&url, &basic, NOW));
        let two = [
            ("Authorization".to_owned(), format!("Bearer {good}")),
            ("Cookie".to_owned(), "a=b".to_owned()),
        ];
        assert!(!service.lets_pull(&url, &two, NOW));
    }
}
