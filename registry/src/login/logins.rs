//! What a file of credentials says about which registry.

use std::collections::HashMap;

use data_encoding::BASE64;
use serde::Deserialize;

use super::credential_helper::{CredentialHelper, HelperError};
use super::credentials::Credentials;
use crate::names::docker_hub;
use crate::names::registry_origin::RegistryOrigin;

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    auths: HashMap<String, Entry>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers")]
    helpers: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
}

/// One version of the file's content.
#[derive(Debug)]
pub(super) struct Logins {
    /// Counts the versions, the first one being 0.
    pub(super) version: u64,
    known: Vec<Login>,
    store: Option<CredentialHelper>,
}

#[derive(Debug)]
struct Login {
    registry: RegistryOrigin,
    /// The repositories that it is for: those below this path, all of them if it is empty.
    namespace: String,
    /// What the file calls the registry: credential helpers know it by that.
    server: String,
    from: From,
}

#[derive(Debug)]
enum From {
    File(Credentials),
    Helper(CredentialHelper),
    /// In the credential store, if anywhere.
    Elsewhere,
}

impl Logins {
    pub(super) fn parse(text: &[u8], version: u64) -> Result<Self, String> {
        // The text of serde's errors quotes what it finds, which may be a password.
        let file: File = serde_json::from_slice(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("not a Docker config.json: line {line}, column {column}")
        })?;
        let mut known = Vec::new();
        for (key, entry) in &file.auths {
            let from = match entry.credentials() {
                Ok(Some(credentials)) => From::File(credentials),
                Ok(None) => From::Elsewhere,
                Err(reason) => return Err(format!("auths {key:?}: {reason}")),
            };
            known.extend(login(key, from));
        }
        for (key, name) in &file.helpers {
            let helper = CredentialHelper::new(name)
                .map_err(|error| format!("credHelpers {key:?}: {error}"))?;
            known.extend(login(key, From::Helper(helper)));
        }
        let store = file
            .store
            .filter(|name| !name.is_empty())
            .map(|name| {
                CredentialHelper::new(&name).map_err(|error| format!("credsStore: {error}"))
            })
            .transpose()?;
        Ok(Self {
            version,
            known,
            store,
        })
    }

    /// The registries that it names.
    pub(super) fn registries(&self) -> impl Iterator<Item = &RegistryOrigin> {
        self.known.iter().map(|login| &login.registry)
    }

    /// What `repository` of `registry` is to be shown: the most specific entry wins, a credential
    /// helper over the file, and the credential store has the rest.
    ///
    /// # Errors
    /// A credential helper fails.
    pub(super) async fn credentials(
        &self,
        registry: &RegistryOrigin,
        repository: &str,
    ) -> Result<Option<Credentials>, HelperError> {
        let fitting = self.known.iter().filter(|login| {
            login.registry.host().means(registry.host()) && login.covers(repository)
        });
        let best = fitting.max_by_key(|login| {
            let rank = match login.from {
                From::Helper(_) => 2,
                From::File(_) => 1,
                From::Elsewhere => 0,
            };
            (login.namespace.len(), rank)
        });
        match best.map(|login| (&login.from, &login.server)) {
            Some((From::File(credentials), _)) => Ok(Some(credentials.clone())),
            Some((From::Helper(helper), server)) => helper.ask(server).await,
            Some((From::Elsewhere, server)) => self.ask_store(server).await,
            None => self.ask_store(&server_name(registry)).await,
        }
    }

    async fn ask_store(&self, server: &str) -> Result<Option<Credentials>, HelperError> {
        match &self.store {
            Some(store) => store.ask(server).await,
            None => Ok(None),
        }
    }
}

impl Login {
    fn covers(&self, repository: &str) -> bool {
        let below = repository.strip_prefix(self.namespace.as_str());
        below.is_some_and(|rest| {
            self.namespace.is_empty() || rest.is_empty() || rest.starts_with('/')
        })
    }
}

/// What credential helpers know a registry by, when the file does not name it.
fn server_name(registry: &RegistryOrigin) -> String {
    if registry.is_called(docker_hub::NAME, None) {
        return docker_hub::CREDENTIALS_KEY.to_owned();
    }
    let name = registry.host().to_string();
    name.strip_suffix(":443").unwrap_or(&name).to_owned()
}

/// The entry of `key`: `HOST[:PORT]`, at podman `HOST[:PORT]/NAMESPACE`, at old Dockers a URL whose
/// path says nothing. One for something else is left out.
fn login(key: &str, from: From) -> Option<Login> {
    let (scheme, rest) = match key.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, key),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let registry = match scheme {
        None => host.parse().ok()?,
        Some(scheme) => format!("{scheme}://{host}").parse().ok()?,
    };
    let namespace = if scheme.is_some() { "" } else { path };
    Some(Login {
        registry,
        namespace: namespace.trim_matches('/').to_owned(),
        server: key.to_owned(),
        from,
    })
}

impl Entry {
    fn credentials(&self) -> Result<Option<Credentials>, &'static str> {
        if !self.identity_token.is_empty() {
            return Ok(Some(Credentials::IdentityToken(
                self.identity_token.clone(),
            )));
        }
        if self.auth.is_empty() {
            let (user, password) = (self.username.clone(), self.password.clone());
            return Ok((!user.is_empty()).then_some(Credentials::Password { user, password }));
        }
        let decoded = BASE64.decode(self.auth.trim().as_bytes()).ok();
        let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = pair.ok_or("its auth is not text in base64")?;
        let (user, password) = pair
            .split_once(':')
            .ok_or("its auth is not USER:PASSWORD")?;
        Ok(Some(Credentials::Password {
            user: user.to_owned(),
            // Old Dockers pad it.
            password: password.trim_matches('\0').to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn user_for(file: &str, registry: &str, repository: &str) -> Option<String> {
        let logins = Logins::parse(file.as_bytes(), 0).unwrap();
        let registry = registry.parse().unwrap();
        match logins.credentials(&registry, repository).await.unwrap()? {
            Credentials::Password { user, password } => {
                assert_eq!(password, "p");
                Some(user)
            }
            Credentials::IdentityToken(token) => Some(token),
        }
    }

    fn auth(user: &str) -> String {
        BASE64.encode(format!("{user}:p").as_bytes())
    }

    #[tokio::test]
    async fn the_most_specific_entry_wins() {
        let file = serde_json::json!({"auths": {
            "reg.test": {"auth": auth("all")},
            "reg.test/team": {"auth": auth("team")},
            "reg.test/team/app": {"auth": auth("app")},
            "reg.test:5000": {"auth": auth("port")},
        }})
        .to_string();
        for (registry, repository, user) in [
            ("reg.test", "library/a", Some("all")),
            ("reg.test", "team", Some("team")),
            ("reg.test", "team/other", Some("team")),
            ("reg.test", "team/app", Some("app")),
            ("reg.test", "team/app/sub", Some("app")),
            ("reg.test", "team/application", Some("team")),
            ("reg.test", "teams", Some("all")),
            ("reg.test:443", "a", Some("all")),
            ("reg.test:5000", "team/app", Some("port")),
            ("http://reg.test:5000", "team/app", Some("port")),
            ("other.test", "a", None),
        ] {
            let found = user_for(&file, registry, repository).await;
            assert_eq!(found.as_deref(), user, "{registry} {repository}");
        }
    }

    #[tokio::test]
    async fn every_form_of_credentials_is_read() {
        let padded = BASE64.encode(b"padded:p\0\0");
        let file = serde_json::json!({"HttpHeaders": {"x": "y"}, "auths": {
            "https://index.docker.io/v1/": {"auth": auth("hub"), "email": "x"},
            "https://old.test/v2/": {"auth": padded},
            "azure.test": {"auth": auth("00000000"), "identitytoken": "refresh"},
            "kube.test": {"username": "kube", "password": "p"},
            "empty.test": {},
        }})
        .to_string();
        for (registry, user) in [
            ("docker.io", Some("hub")),
            ("old.test", Some("padded")),
            ("azure.test", Some("refresh")),
            ("kube.test", Some("kube")),
            ("empty.test", None),
        ] {
            assert_eq!(
                user_for(&file, registry, "a/b").await.as_deref(),
                user,
                "{registry}"
            );
        }
    }

    #[tokio::test]
    async fn a_helper_for_the_registry_is_asked_before_the_store() {
        let file = r#"{"auths": {"b.test": {}}, "credsStore": "missing-store",
            "credHelpers": {"a.test": "missing-helper"}}"#;
        let logins = Logins::parse(file.as_bytes(), 0).unwrap();
        for (registry, program) in [
            ("a.test", "docker-credential-missing-helper"),
            ("b.test", "docker-credential-missing-store"),
            ("c.test", "docker-credential-missing-store"),
        ] {
            let failed = logins.credentials(&registry.parse().unwrap(), "x").await;
            let error = failed.unwrap_err().to_string();
            assert!(error.contains(program), "{error}");
        }
        let named: Vec<String> = logins.registries().map(ToString::to_string).collect();
        assert!(named.len() == 2 && !named.contains(&"c.test:443".to_owned()));
    }

    #[test]
    fn malformed_files_are_refused_without_quoting_them() {
        for file in [
            "hunter2",
            r#"{"auths": "hunter2"}"#,
            r#"{"auths": {"a.test": {"auth": "hunter2!"}}}"#,
            r#"{"auths": {"a.test": {"auth": "aHVudGVyMg=="}}}"#,
            r#"{"auths": {"a.test": {"auth": ["hunter2"]}}}"#,
            r#"{"credsStore": "../x"}"#,
            r#"{"credHelpers": {"a.test": "a b"}}"#,
        ] {
            let reason = Logins::parse(file.as_bytes(), 0).unwrap_err();
            assert!(!reason.contains("hunter2"), "{reason}");
        }
    }
}
