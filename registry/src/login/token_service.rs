//! Tokens for registries ("Docker Registry v2 authentication", token and OAuth2 specifications).

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::credentials::Credentials;
use super::{LoginError, LoginHeaders};
use crate::challenge::token_url;
use crate::names::registry_origin::RegistryOrigin;
use crate::source::{Source, SourceError};

/// Harbor's tokens for many repositories reach 16 KiB.
const MAX_ANSWER_BYTES: usize = 128 * 1024;
/// What a token lives when its service does not say (Token Authentication Specification).
const USUAL_LIFETIME: u64 = 60;
/// No token is used for longer without asking again.
const MAX_LIFETIME: u64 = 60 * 60;
/// A token is not used in the last part of its life, a tenth, but no more than this: requests
/// take time and clocks differ.
const MAX_SPARED: u64 = 30;
/// What we call ourselves where OAuth2 wants a name.
const CLIENT_ID: &str = "flotilla";

/// A token and how long it may be used.
pub(super) struct Token {
    pub(super) value: String,
    pub(super) lifetime: Duration,
}

/// What to ask for, and where.
pub(super) struct TokenRequest {
    pub(super) realm: Url,
    pub(super) service: Option<String>,
    pub(super) scope: String,
}

/// Why there is no token.
pub(super) enum TokenError {
    Refused(StatusCode),
    NoToken,
    Source(SourceError),
}

impl TokenError {
    pub(super) fn of(self, registry: &RegistryOrigin) -> LoginError {
        let registry = registry.to_string();
        match self {
            Self::Refused(status) => LoginError::Refused {
                registry,
                status: status.as_u16(),
            },
            Self::NoToken => LoginError::NoToken(registry),
            Self::Source(error) => LoginError::Source(error),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl TokenRequest {
    /// Asks; without credentials for what anybody may have. Passwords go by `GET`, as Harbor
    /// answers `POST` with 405; identity tokens have no other way than `POST`.
    pub(super) async fn send(
        self,
        source: &Source,
        credentials: Option<&Credentials>,
    ) -> Result<Token, TokenError> {
        let answered = match credentials {
            Some(Credentials::IdentityToken(token)) => {
                let form = self.refresh_form(token);
                source.post_form(&self.realm, form, MAX_ANSWER_BYTES).await
            }
            credentials => {
                let basic = credentials.and_then(Credentials::basic);
                let headers: LoginHeaders = basic
                    .map(|value| ("Authorization".to_owned(), value))
                    .into_iter()
                    .collect();
                let scopes = self.scope.split_ascii_whitespace();
                let url = token_url(self.realm.clone(), self.service.as_deref(), scopes);
                source.fetch(&url, &headers, MAX_ANSWER_BYTES).await
            }
        };
        let (status, body) = answered.map_err(TokenError::Source)?;
        if status != StatusCode::OK {
            return Err(TokenError::Refused(status));
        }
        read(&body).ok_or(TokenError::NoToken)
    }

    /// RFC 6749 section 6.
    fn refresh_form(&self, token: &str) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("refresh_token", token)
            .append_pair("scope", &self.scope);
        if let Some(service) = &self.service {
            form.append_pair("service", service);
        }
        form.finish()
    }
}

fn read(body: &[u8]) -> Option<Token> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let given = [answer.token, answer.access_token];
    let value = given
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty())?;
    // It goes into a header.
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let lives = answer.expires_in.filter(|seconds| *seconds > 0);
    let lives = lives.unwrap_or(USUAL_LIFETIME).min(MAX_LIFETIME);
    let spared = (lives / 10).clamp(1, MAX_SPARED);
    Some(Token {
        value,
        lifetime: Duration::from_secs(lives.saturating_sub(spared)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_until_shortly_before_it_expires() {
        for (body, value, seconds) in [
            (
                r#"{"token":"a","access_token":"","expires_in":1800}"#,
                "a",
                1770,
            ),
            (r#"{"access_token":"b","expires_in":300}"#, "b", 270),
            (r#"{"token":"c"}"#, "c", 54),
            (r#"{"token":"d","expires_in":1}"#, "d", 0),
            (r#"{"token":"e","expires_in":99999999}"#, "e", 3570),
        ] {
            let token = read(body.as_bytes()).unwrap();
            assert_eq!(token.value, value);
            assert_eq!(token.lifetime, Duration::from_secs(seconds), "{body}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for body in [
            "",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":"a b"}"#,
            "{\"token\":\"a\\r\\nb: c\"}",
            r#"{"token":7}"#,
        ] {
            assert!(read(body.as_bytes()).is_none(), "{body}");
        }
    }
}
