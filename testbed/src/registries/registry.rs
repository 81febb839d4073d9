//! A real registry (package docker-registry) that requires a login, of several kinds.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::network::host::Host;
use crate::network::namespace::output_of;
use crate::processes::deadline::wait_until;
use crate::processes::process::Process;
use crate::registries::blob_store::BlobStore;
use crate::registries::certificate::{CERTIFICATE_FILE, Certificate};
use crate::registries::login::Login;
use crate::registries::registry_log::{BlobTraffic, RegistryLog};
use crate::registries::token_service::TokenService;

const PORT: u16 = 5000;
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// A request that is still being answered when traffic is asked for has this long to finish.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The user that every registry of the testbed knows.
const OPERATOR: Login = Login {
    user: "operator",
    password: "harbour-light",
};

/// How a registry is reached, and how it lets clients in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryKind {
    /// Plain HTTP, Basic credentials.
    PlainBasic,
    /// HTTPS certified by a private CA, tokens from a token service.
    HttpsBearer,
    /// Plain HTTP, Basic credentials; blobs are redirected to a store that takes none.
    Redirecting,
}

/// A running registry, storing files on its host.
#[derive(Debug)]
pub struct Registry {
    host: Host,
    process: Process,
    kind: RegistryKind,
    directory: PathBuf,
    _tokens: Option<TokenService>,
    _store: Option<BlobStore>,
}

impl Registry {
    /// Starts an empty registry with Basic login over plain HTTP on `host`.
    ///
    /// # Errors
    /// `docker-registry` or `htpasswd` is missing, or it does not start.
    pub fn start(host: &Host) -> Result<Self> {
        Self::start_as(RegistryKind::PlainBasic, host)
    }

    /// Starts an empty registry on `host`.
    ///
    /// # Errors
    /// A program is missing (docker-registry, htpasswd, nginx), or one does not start.
    pub fn start_as(kind: RegistryKind, host: &Host) -> Result<Self> {
        let directory = host.directory().join("registry");
        fs::create_dir_all(&directory).context("cannot create the registry's directory")?;
        let passwords = directory.join("htpasswd");
        fs::write(&passwords, password_file(OPERATOR)?).context("cannot write htpasswd")?;
        let configuration = directory.join("config.json");
        let mut settings = Map::from_iter([
            ("version".to_owned(), json!(0.1)),
            (
                "log".to_owned(),
                json!({"level": "info", "formatter": "json", "accesslog": {"disabled": true}}),
            ),
            (
                "storage".to_owned(),
                json!({"filesystem": {"rootdirectory": directory.join("blobs")}}),
            ),
        ]);
        let mut http = json!({"addr": format!("{}:{PORT}", host.address())});
        let mut auth = json!({"htpasswd": {"realm": "flotilla testbed", "path": passwords}});
        let (mut tokens, mut store) = (None, None);
        match kind {
            RegistryKind::PlainBasic => {}
            RegistryKind::HttpsBearer => {
                let own = Certificate::for_address(host.address())?;
                let (chain, key) = own.write(&directory)?;
                let tls = json!({"certificate": chain, "key": key});
                http = json!({"addr": format!("{}:{PORT}", host.address()), "tls": tls});
                let service = TokenService::start(host, OPERATOR, &directory)?;
                auth = service.registry_settings();
                tokens = Some(service);
            }
            RegistryKind::Redirecting => {
                let blobs = BlobStore::start(host, &directory.join("blobs"))?;
                let redirect = json!({"name": "redirect", "options": {"baseurl": blobs.url()}});
                settings.insert("middleware".to_owned(), json!({"storage": [redirect]}));
                store = Some(blobs);
            }
        }
        settings.insert("http".to_owned(), http);
        settings.insert("auth".to_owned(), auth);
        // The registry reads YAML, of which JSON is a part.
        fs::write(&configuration, Value::from(settings).to_string())
            .context("cannot write configuration")?;
        let mut command = host.service("docker-registry");
        command.arg("serve").arg(&configuration);
        let mut process = Process::start("registry", host.directory(), command)?;
        process.wait_ready(READY_TIMEOUT, |registry| {
            registry.errors().contains("listening on")
        })?;
        Ok(Self {
            host: host.clone(),
            process,
            kind,
            directory,
            _tokens: tokens,
            _store: store,
        })
    }

    /// `address:port`, the first part of an image's reference.
    pub fn address(&self) -> String {
        format!("{}:{PORT}", self.host.address())
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        match self.kind {
            RegistryKind::HttpsBearer => "https",
            RegistryKind::PlainBasic | RegistryKind::Redirecting => "http",
        }
    }

    /// The certificate authority that clients have to trust, when it is a private one.
    pub fn ca(&self) -> Option<PathBuf> {
        (self.kind == RegistryKind::HttpsBearer).then(|| self.directory.join(CERTIFICATE_FILE))
    }

    /// The user it accepts.
    pub fn login(&self) -> Login {
        OPERATOR
    }

    /// The host it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// CPU seconds that it has used so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.process.cpu_seconds()
    }

    /// Where its requests and responses are logged, one JSON object a line.
    pub fn log_file(&self) -> PathBuf {
        self.process.error_file().to_owned()
    }

    /// Blob bytes and requests so far, once every request that was let in has been answered: the
    /// registry logs a response's bytes when it ends.
    ///
    /// # Errors
    /// A request is still being answered after half a minute.
    pub fn traffic(&self) -> Result<BlobTraffic> {
        wait_until(
            "the registry answers what it was asked",
            SETTLE_TIMEOUT,
            || {
                let log = RegistryLog::parse(&self.process.errors());
                Ok((log.in_flight == 0).then_some(log.traffic))
            },
        )
    }

    /// Blob bytes and requests that are already logged, without waiting.
    pub fn traffic_so_far(&self) -> BlobTraffic {
        RegistryLog::parse(&self.process.errors()).traffic
    }
}

fn password_file(login: Login) -> Result<String> {
    let mut command = Command::new("htpasswd");
    command.args(["-Bbn", login.user, login.password]);
    command.stderr(Stdio::null());
    output_of(&mut command).context("htpasswd (package apache2-utils)")
}
