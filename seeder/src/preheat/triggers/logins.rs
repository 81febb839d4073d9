//! What Harbor shows as a caller: the logins of a provider, and of a webhook.

use std::fmt;
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use data_encoding::BASE64;
use sha2::{Digest as _, Sha256};

/// A shorter secret can be guessed.
const MIN_SECRET: usize = 16;

/// Logins that are taken from triggers, a line each: `bearer TOKEN`, `basic USER:PASSWORD`,
/// `harbor-basic USER:PASSWORD`, `header NAME: VALUE`, or `none` to let every caller in. Lines that
/// begin with `#` are comments. Kept as hashes: comparing these takes the same time wherever they
/// differ.
///
/// # Defaults
/// None.
#[derive(Clone, Default)]
pub struct TriggerLogins {
    expected: Vec<(HeaderName, [u8; 32])>,
    admits_all: bool,
}

/// A line is not understood. The text quotes none: it may be a password.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct TriggerLoginsError {
    line: usize,
    reason: String,
}

// It has hashes of secrets.
impl fmt::Debug for TriggerLogins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TriggerLogins")
    }
}

impl TriggerLogins {
    pub(crate) fn is_empty(&self) -> bool {
        self.expected.is_empty() && !self.admits_all
    }

    /// Whether one of them is among `headers`. Takes the same time whichever it is.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> bool {
        let mut admitted = self.admits_all;
        for (name, hash) in &self.expected {
            for value in headers.get_all(name) {
                admitted |= <[u8; 32]>::from(Sha256::digest(value.as_bytes())) == *hash;
            }
        }
        admitted
    }

    /// Whether `headers` hold a login of the kind that is wanted, be it right or wrong.
    pub(crate) fn are_tried_by(&self, headers: &HeaderMap) -> bool {
        let mut names = self.expected.iter().map(|(name, _)| name);
        names.any(|name| headers.contains_key(name)) || headers.contains_key(header::AUTHORIZATION)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match kind {
            "none" if rest.is_empty() => self.admits_all = true,
            "bearer" => {
                long_enough(rest, "the token")?;
                self.expect(header::AUTHORIZATION, &format!("Bearer {rest}"))?;
            }
            "basic" => {
                let (_, password) = user_and_password(rest)?;
                long_enough(password, "the password")?;
                self.expect_basic(rest)?;
            }
            "harbor-basic" => {
                let (user, password) = user_and_password(rest)?;
                long_enough(user, "the user's name, which is all that Harbor may show,")?;
                long_enough(password, "the password")?;
                // Harbor's own form stores the fields' names as keys, and a driver takes the
                // first key for the user's name, which is the one or the other.
                for pair in [
                    rest,
                    &format!("username:{user}"),
                    &format!("password:{password}"),
                ] {
                    self.expect_basic(pair)?;
                }
            }
            "header" => {
                let pair = rest.split_once(':').ok_or("it is not header NAME: VALUE")?;
                let name: HeaderName = pair.0.trim().parse().map_err(|_| "no name of a header")?;
                long_enough(pair.1.trim(), "the value")?;
                self.expect(name, pair.1.trim())?;
            }
            _ => {
                let known = "bearer TOKEN, basic USER:PASSWORD, harbor-basic USER:PASSWORD, header NAME: VALUE, none";
                return Err(format!("expected one of: {known}"));
            }
        }
        Ok(())
    }

    fn expect_basic(&mut self, pair: &str) -> Result<(), String> {
        let value = format!("Basic {}", BASE64.encode(pair.as_bytes()));
        self.expect(header::AUTHORIZATION, &value)
    }

    fn expect(&mut self, name: HeaderName, value: &str) -> Result<(), String> {
        let value = HeaderValue::from_str(value).map_err(|_| "no value of a header")?;
        self.expected
            .push((name, Sha256::digest(value.as_bytes()).into()));
        Ok(())
    }
}

fn user_and_password(pair: &str) -> Result<(&str, &str), String> {
    let pair = pair.split_once(':');
    pair.ok_or_else(|| "it is not USER:PASSWORD".to_owned())
}

fn long_enough(secret: &str, what: &str) -> Result<(), String> {
    if secret.len() < MIN_SECRET {
        return Err(format!("{what} has fewer than {MIN_SECRET} characters"));
    }
    Ok(())
}

impl FromStr for TriggerLogins {
    type Err = TriggerLoginsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut logins = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            logins.add(line).map_err(|reason| TriggerLoginsError {
                line: index + 1,
                reason,
            })?;
        }
        Ok(logins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "harbour-light-0001";

    fn admits(logins: &str, name: &str, value: &str) -> bool {
        let logins: TriggerLogins = logins.parse().unwrap();
        let mut headers = HeaderMap::new();
        let name: HeaderName = name.parse().unwrap();
        headers.insert(name, value.parse().unwrap());
        logins.admit(&headers)
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", BASE64.encode(pair.as_bytes()))
    }

    #[test]
    fn each_mode_lets_in_what_harbor_shows_and_nothing_else() {
        let bearer = format!("# Harbor\n\nbearer {SECRET}\n");
        assert!(admits(
            &bearer,
            "authorization",
            &format!("Bearer {SECRET}")
        ));
        assert!(!admits(
            &bearer,
            "authorization",
            "Bearer harbour-light-0002"
        ));
        assert!(!admits(&bearer, "x-other", &format!("Bearer {SECRET}")));
        let pair = format!("basic harbor:{SECRET}");
        assert!(admits(&pair, "authorization", &basic(&pair[6..])));
        assert!(!admits(&pair, "authorization", &basic("username:harbor")));
        let password = basic(&format!("password:{SECRET}"));
        assert!(!admits(&pair, "authorization", &password));
        let custom = format!("header X-Preheat-Key: {SECRET}");
        assert!(admits(&custom, "x-preheat-key", SECRET));
        assert!(!admits(&custom, "x-preheat-key", "harbour-light-0002"));
        assert!(admits("none", "accept", "application/json"));
    }

    #[test]
    fn what_harbor_s_form_makes_of_a_user_and_a_password_is_let_in_where_both_are_secrets() {
        let user = "preheat-of-harbor-0001";
        let both = format!("harbor-basic {user}:{SECRET}");
        for (pair, is_let_in) in [
            (format!("{user}:{SECRET}"), true),
            (format!("username:{user}"), true),
            (format!("password:{SECRET}"), true),
            (format!("username:{SECRET}"), false),
            ("username:".to_owned(), false),
        ] {
            let admitted = admits(&both, "authorization", &basic(&pair));
            assert_eq!(admitted, is_let_in, "{pair}");
        }
        let guessable = format!("harbor-basic admin:{SECRET}");
        assert!(guessable.parse::<TriggerLogins>().is_err());
    }

    #[test]
    fn a_bad_line_is_named_and_not_quoted() {
        for text in [
            "bearer hunter2",
            "bearer",
            "basic hunter2-hunter2-hunter2",
            "header hunter2-hunter2",
            "token hunter2-hunter2",
            "none hunter2",
            "header a b: hunter2-hunter2-hunter2",
        ] {
            let error = format!("# x\n{text}").parse::<TriggerLogins>();
            let error = error.unwrap_err().to_string();
            let is_told = error.starts_with("line 2: ") && !error.contains("hunter2");
            assert!(is_told, "{error}");
        }
        assert!("".parse::<TriggerLogins>().unwrap().is_empty());
    }
}
