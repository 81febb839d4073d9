//! Who may have what: the source decides, for every caller.
//!
//! A yes is kept for a minute at most, and never longer than the token it was given to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use flotilla_cluster::unix_now;
use moka::Expiry;
use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::source::{Permission, Source, SourceError};
use crate::token::TokenVerifier;

/// A revoked permission to a blob ends at the latest after this.
const BLOB_TTL: Duration = Duration::from_secs(60);
/// The content behind other URLs may change: its validator is asked for again after this.
const URL_TTL: Duration = Duration::from_secs(5);
/// A blob that was deleted from a repository is given to holders of tokens for the repository
/// at the latest until then; the tokens themselves are verified each time.
const PRESENCE_TTL: Duration = Duration::from_secs(60 * 60);
/// Permissions kept; each takes about 200 bytes.
const MAX_KEPT: u64 = 100_000;
/// Harbor's tokens for many scopes reach 16 KiB.
const MAX_TOKEN_LENGTH: usize = 64 * 1024;

/// What was asked: URL and a hash of the caller's credentials.
type Key = (String, [u8; 32]);

/// Asks sources whether callers may have their content. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authorizer {
    source: Source,
    granted: Cache<Key, Granted>,
    tokens: TokenVerifier,
    /// Blobs that their registry has given to a caller, by URL: they are in that repository.
    present: Cache<String, Permission>,
    kept_for: Duration,
}

#[derive(Clone, Debug)]
struct Granted {
    permission: Permission,
    lifetime: Duration,
}

struct Lifetime;

impl Expiry<Key, Granted> for Lifetime {
    fn expire_after_create(
        &self,
        _key: &Key,
        granted: &Granted,
        _now: Instant,
    ) -> Option<Duration> {
        Some(granted.lifetime)
    }
}

impl Authorizer {
    /// Asks registries for blobs, unless `tokens` knows better.
    pub fn for_blobs(source: Source, tokens: TokenVerifier) -> Self {
        Self::new(source, tokens, BLOB_TTL)
    }

    /// Asks any server, whose content may change.
    pub fn for_urls(source: Source) -> Self {
        Self::new(source, TokenVerifier::default(), URL_TTL)
    }

    fn new(source: Source, tokens: TokenVerifier, kept_for: Duration) -> Self {
        let granted = Cache::builder()
            .max_capacity(MAX_KEPT)
            .support_invalidation_closures()
            .expire_after(Lifetime)
            .build();
        Self {
            source,
            granted,
            tokens,
            present: Cache::builder()
                .max_capacity(MAX_KEPT)
                .time_to_live(PRESENCE_TTL)
                .build(),
            kept_for,
        }
    }

    /// Whether a caller with `headers` may have `url`: by a one-byte request, or by a yes
    /// that was given a moment ago. Callers with the same credentials share one request.
    ///
    /// # Errors
    /// The source does not say yes.
    pub async fn check(
        &self,
        url: &Url,
        headers: &[(String, String)],
    ) -> Result<Permission, Arc<SourceError>> {
        // Looking is cheaper than verifying a signature.
        if let Some(permission) = self.present.get(url.as_str()).await
            && self.tokens.lets_pull(url, headers, unix_now())
        {
            return Ok(permission);
        }
        let asked = async {
            let permission = self.source.probe(url, headers).await?;
            self.note_present(url, &permission).await;
            Ok(Granted {
                permission,
                lifetime: lifetime(headers).min(self.kept_for),
            })
        };
        let granted = self.granted.try_get_with(key(url, headers), asked).await?;
        if granted.lifetime.is_zero() {
            self.granted.invalidate(&key(url, headers)).await;
        }
        Ok(granted.permission)
    }

    /// Whether a caller with `headers` may have the blob at `url`, which is here and has
    /// `length` bytes. A login page with status 200 is no yes.
    ///
    /// # Errors
    /// The source does not say yes, or has something else there.
    pub async fn check_blob(
        &self,
        url: &Url,
        headers: &[(String, String)],
        length: u64,
    ) -> Result<(), Arc<SourceError>> {
        let permission = self.check(url, headers).await?;
        let is_it = match permission.total {
            Some(total) => total == length,
            // Sent in chunks: the digest in the URL says which content it is.
            None => permission.is_content,
        };
        if is_it {
            Ok(())
        } else {
            Err(Arc::new(SourceError::Nonsense(
                "another length than the blob has",
            )))
        }
    }

    /// The registry has said that the blob at `url` is gone, or was told to delete it: no yes of
    /// before counts.
    pub async fn forget(&self, url: &Url) {
        self.present.invalidate(url.as_str()).await;
        let gone = url.to_string();
        // Only a cache that was not built for it refuses.
        let _ = self
            .granted
            .invalidate_entries_if(move |(url, _), _| *url == gone);
    }

    /// Of use only where a registry's tokens can be verified here.
    async fn note_present(&self, url: &Url, permission: &Permission) {
        if self.tokens.knows(url) {
            self.present
                .insert(url.to_string(), permission.clone())
                .await;
        }
    }

    /// Notes a yes that the source gave in another way: it delivered.
    pub async fn grant(&self, url: &Url, headers: &[(String, String)], permission: Permission) {
        let lifetime = lifetime(headers).min(self.kept_for);
        self.note_present(url, &permission).await;
        if !lifetime.is_zero() {
            self.granted
                .insert(
                    key(url, headers),
                    Granted {
                        permission,
                        lifetime,
                    },
                )
                .await;
        }
    }
}

/// Every header counts, as any of them may be a credential, but for the name of the caller's program.
fn key(url: &Url, headers: &[(String, String)]) -> Key {
    let mut sorted: Vec<(String, &str)> = headers
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("user-agent"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .collect();
    sorted.sort_unstable();
    let mut hash = Sha256::new();
    for (name, value) in sorted {
        for text in [name.as_str(), value] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
    }
    (url.to_string(), hash.finalize().into())
}

/// How long a yes to these credentials may be kept.
fn lifetime(headers: &[(String, String)]) -> Duration {
    // RFC 9110 section 11.1: the scheme's case does not matter.
    let bearer = headers.iter().find_map(|(name, value)| {
        let (scheme, token) = value.split_once(' ')?;
        let is_bearer =
            name.eq_ignore_ascii_case("authorization") && scheme.eq_ignore_ascii_case("bearer");
        is_bearer.then_some(token.trim())
    });
    let Some(expires) = bearer.and_then(expiry_of_jwt) else {
        return Duration::MAX;
    };
    Duration::from_secs(expires.saturating_sub(unix_now()))
}

/// The `exp` of a JWT (RFC 7519 section 4.1.4). Not verified: the source has done that, and
/// a forged one can only shorten the time.
fn expiry_of_jwt(token: &str) -> Option<u64> {
    if token.len() > MAX_TOKEN_LENGTH {
        return None;
    }
    #[derive(serde::Deserialize)]
    struct Claims {
        exp: u64,
    }
    let payload = token.split('.').nth(1)?;
    let json = BASE64URL_NOPAD
        .decode(payload.trim_end_matches('=').as_bytes())
        .ok()?;
    serde_json::from_slice::<Claims>(&json)
        .ok()
        .map(|claims| claims.exp)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    fn bearer(exp: u64) -> Vec<(String, String)> {
        let payload = BASE64URL_NOPAD.encode(format!("{{\"exp\":{exp}}}").as_bytes());
        vec![(
            "Authorization".to_owned(),
            format!("Bearer head.{payload}.signature"),
        )]
    }

    fn now() -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    }

    #[test]
    fn a_yes_is_not_kept_longer_than_the_token_lives() {
        assert!(lifetime(&bearer(now() + 10)) <= Duration::from_secs(10));
        assert_eq!(lifetime(&bearer(now() - 1)), Duration::ZERO);
        assert_eq!(lifetime(&[]), Duration::MAX);
    }

    #[test]
    fn other_credentials_have_another_key() {
        let url = Url::parse("http://registry/v2/a/blobs/x").unwrap();
        let with = |value: &str| key(&url, &[("Authorization".to_owned(), value.to_owned())]);
        assert_ne!(with("Basic a"), with("Basic b"));
        assert_ne!(with("Basic a"), key(&url, &[]));
        let agent = |name: &str| key(&url, &[("User-Agent".to_owned(), name.to_owned())]);
        assert_eq!(agent("docker/29"), agent("containerd/2"));
    }
}
