//! Programs that keep credentials: `docker-credential-NAME get`, the registry on its stdin, JSON on
//! its stdout (docker-credential-helpers, "Development").

use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::credentials::Credentials;

/// Those of clouds ask a server of their cloud.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);
/// Tokens of clouds have a few KiB.
const MAX_ANSWER_BYTES: u64 = 128 * 1024;
const MAX_NAME_LENGTH: usize = 64;
/// What a helper answers, and Docker's clients look for, when it has nothing for a registry.
const NOT_FOUND: &str = "credentials not found";
/// The user name that goes with an identity token.
const TOKEN_USER: &str = "<token>";

/// A helper gives no credentials. What it said is not part of it: it may hold some.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelperError {
    /// A helper is named by what could be more than a name.
    #[error("credential helper {0:?}: expected letters, digits, '.', '_' and '-'")]
    Name(String),
    /// It cannot be run.
    #[error("{helper} cannot be run: {reason}")]
    Run {
        /// The program.
        helper: String,
        /// What the system said.
        reason: String,
    },
    /// It took too long.
    #[error("{helper} did not answer within {limit:?}")]
    Late {
        /// The program.
        helper: String,
        /// The limit.
        limit: Duration,
    },
    /// It failed, or answered something else.
    #[error("{helper} {what}")]
    Answer {
        /// The program.
        helper: String,
        /// In brief.
        what: &'static str,
    },
}

/// One program, found in PATH.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct CredentialHelper {
    program: String,
    time_limit: Duration,
}

impl fmt::Debug for CredentialHelper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username", default)]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

impl CredentialHelper {
    /// # Errors
    /// `name` is not a name of a helper.
    pub(super) fn new(name: &str) -> Result<Self, HelperError> {
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME_LENGTH || !name.bytes().all(is_safe) {
            return Err(HelperError::Name(name.to_owned()));
        }
        Ok(Self {
            program: format!("docker-credential-{name}"),
            time_limit: HELPER_TIMEOUT,
        })
    }

    /// What it keeps for `server`. Not run by a shell, and killed when no caller waits any more.
    ///
    /// # Errors
    /// It does not answer as it should.
    pub(super) async fn ask(&self, server: &str) -> Result<Option<Credentials>, HelperError> {
        let answered = tokio::time::timeout(self.time_limit, self.run(server)).await;
        let (succeeded, answer) = answered.map_err(|_| HelperError::Late {
            helper: self.program.clone(),
            limit: self.time_limit,
        })??;
        if !succeeded {
            let says_none = String::from_utf8_lossy(&answer).contains(NOT_FOUND);
            return if says_none {
                Ok(None)
            } else {
                Err(self.answered("failed"))
            };
        }
        if answer.len() as u64 > MAX_ANSWER_BYTES {
            return Err(self.answered("answered too much"));
        }
        let answer: Answer = serde_json::from_slice(&answer)
            .map_err(|_| self.answered("did not answer with Username and Secret"))?;
        Ok(match (answer.user.as_str(), answer.secret) {
            (_, secret) if secret.is_empty() => None,
            (TOKEN_USER, token) => Some(Credentials::IdentityToken(token)),
            (user, password) => Some(Credentials::Password {
                user: user.to_owned(),
                password,
            }),
        })
    }

    async fn run(&self, server: &str) -> Result<(bool, Vec<u8>), HelperError> {
        let failed = |error: std::io::Error| HelperError::Run {
            helper: self.program.clone(),
            reason: error.to_string(),
        };
        let mut child = Command::new(&self.program)
            .arg("get")
            // The cluster's secret is not for it.
            .env_remove("FLOTILLA_JOIN_TOKEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(server.as_bytes()).await {
                // It may know its answer without reading.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    return Err(failed(error));
                }
                _ => {}
            }
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            // One byte more than it may have: that is how too much is noticed. What is left unread
            // ends it by a broken pipe.
            let mut stdout = stdout.take(MAX_ANSWER_BYTES + 1);
            stdout.read_to_end(&mut answer).await.map_err(failed)?;
        }
        let status = child.wait().await.map_err(failed)?;
        let is_cut = answer.len() as u64 > MAX_ANSWER_BYTES;
        Ok((status.success() || is_cut, answer))
    }

    fn answered(&self, what: &'static str) -> HelperError {
        HelperError::Answer {
            helper: self.program.clone(),
            what,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    /// A helper that is this shell script.
    fn script(dir: &Path, lines: &str) -> CredentialHelper {
        let path = dir.join("helper");
        std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        CredentialHelper {
            program: path.to_str().unwrap().to_owned(),
            time_limit: HELPER_TIMEOUT,
        }
    }

    async fn answer_of(lines: &str) -> Result<Option<Credentials>, HelperError> {
        let dir = tempfile::tempdir().unwrap();
        script(dir.path(), lines).ask("reg.test:5000").await
    }

    #[tokio::test]
    async fn a_helper_is_asked_for_the_registry_on_its_stdin() {
        let echo =
            r#"[ "$1" = get ] && printf '{"ServerURL":"x","Username":"u","Secret":"%s"}' "$(cat)""#;
        let credentials = answer_of(echo).await.unwrap().unwrap();
        let expected = Credentials::Password {
            user: "u".to_owned(),
            password: "reg.test:5000".to_owned(),
        };
        assert!(credentials == expected);
        let token = r#"echo '{"Username":"<token>","Secret":"refresh"}'"#;
        let token = answer_of(token).await.unwrap();
        assert!(token == Some(Credentials::IdentityToken("refresh".to_owned())));
    }

    #[tokio::test]
    async fn a_helper_without_the_registry_gives_none() {
        let none = "echo credentials not found in native keychain; exit 1";
        assert!(answer_of(none).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_a_broken_helper_says_is_not_repeated() {
        for (lines, what) in [
            ("echo hunter2; exit 1", "failed"),
            ("echo hunter2", "did not answer"),
            ("head -c 1000000 /dev/zero", "too much"),
        ] {
            let error = answer_of(lines).await.unwrap_err().to_string();
            assert!(
                error.contains(what) && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn a_helper_that_hangs_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let hanging = CredentialHelper {
            time_limit: Duration::from_millis(200),
            ..script(dir.path(), "exec sleep 600")
        };
        let late = hanging.ask("reg.test").await;
        assert!(matches!(late, Err(HelperError::Late { .. })));
    }

    #[tokio::test]
    async fn a_missing_helper_is_named() {
        let missing = CredentialHelper::new("no-such-helper").unwrap();
        let error = missing.ask("reg.test").await.unwrap_err().to_string();
        assert!(
            error.contains("docker-credential-no-such-helper"),
            "{error}"
        );
    }

    #[test]
    fn names_are_names_only() {
        for name in ["", "a/b", "../x", "a b", "a;b", "$(x)", "é"] {
            assert!(CredentialHelper::new(name).is_err(), "{name}");
        }
        assert!(CredentialHelper::new("ecr-login").is_ok());
    }
}
