//! A real Docker engine (package docker.io) on a host, without networks of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;

use crate::network::host::Host;
use crate::network::namespace::output_of;
use crate::processes::process::Process;
use crate::registries::login::Login;
use crate::registries::registry::Registry;
use crate::sweep::unmount_below;

/// Two cores may start five engines at once.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How an engine reaches its registry.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// `address:port` of registries that speak plain HTTP.
    pub plain_registries: Vec<String>,
    /// `HTTP_PROXY` and `HTTPS_PROXY` of the engine.
    pub http_proxy: Option<String>,
    /// Certificate authorities that it trusts instead of the machine's.
    pub ca: Option<PathBuf>,
    /// Mirrors of Docker Hub.
    pub registry_mirrors: Vec<String>,
}

impl EngineOptions {
    /// Straight to `registry`.
    pub fn direct(registry: &Registry) -> Self {
        Self {
            plain_registries: vec![registry.address()],
            ..Self::default()
        }
    }

    /// To `registry` through the node's flotilla proxy.
    pub fn proxied(registry: &Registry) -> Self {
        Self {
            http_proxy: Some("http://127.0.0.1:65001".to_owned()),
            ..Self::direct(registry)
        }
    }
}

/// Pulls on all engines at the same time; the time each one took.
///
/// # Errors
/// A pull failed.
pub fn pull_all(engines: &[DockerEngine], reference: &str) -> Result<Vec<Duration>> {
    thread::scope(|scope| {
        let pulls: Vec<_> = engines
            .iter()
            .map(|engine| scope.spawn(|| engine.pull(reference)))
            .collect();
        pulls.into_iter().map(joined).collect()
    })
}

fn joined<T>(pull: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    pull.join().map_err(|_| anyhow!("a pull panicked"))?
}

/// A running engine with an image store of its own.
#[derive(Debug)]
pub struct DockerEngine {
    process: Process,
    directory: PathBuf,
    socket: PathBuf,
}

impl DockerEngine {
    /// Starts an engine with the store `store` of this host, a new one when it is missing, and
    /// returns without waiting for it.
    ///
    /// # Errors
    /// `dockerd` is missing.
    pub fn start(host: &Host, store: &str, options: &EngineOptions) -> Result<Self> {
        let directory = host.directory().join(store);
        fs::create_dir_all(directory.join("client")).context("cannot create docker's directory")?;
        let socket = directory.join("docker.sock");
        let configuration = directory.join("daemon.json");
        let settings = json!({
            "data-root": directory.join("data"),
            "exec-root": directory.join("exec"),
            "pidfile": directory.join("docker.pid"),
            "hosts": [format!("unix://{}", socket.display())],
            "bridge": "none",
            "iptables": false,
            "insecure-registries": options.plain_registries,
            "registry-mirrors": options.registry_mirrors,
        });
        fs::write(&configuration, settings.to_string()).context("cannot write daemon.json")?;
        let mut command = host.service("dockerd");
        command.arg("--config-file").arg(&configuration);
        for variable in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
            command.env_remove(variable);
            command.env_remove(variable.to_ascii_lowercase());
        }
        if let Some(proxy) = &options.http_proxy {
            command.env("HTTP_PROXY", proxy).env("HTTPS_PROXY", proxy);
        }
        if let Some(ca) = &options.ca {
            command.env("SSL_CERT_FILE", ca);
        }
        Ok(Self {
            process: Process::start("dockerd", host.directory(), command)?,
            directory,
            socket,
        })
    }

    /// Waits until the engine answers.
    ///
    /// # Errors
    /// It does not start; with its log.
    pub fn wait_ready(&mut self) -> Result<()> {
        let mut version = self.client(&["version"]);
        self.process.wait_ready(READY_TIMEOUT, |_| {
            version.output().is_ok_and(|output| output.status.success())
        })
    }

    /// The `docker` command of this engine.
    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .arg("--host")
            .arg(format!("unix://{}", self.socket.display()));
        command.arg("--config").arg(self.directory.join("client"));
        command.args(arguments);
        command
    }

    /// `docker login`.
    ///
    /// # Errors
    /// Refused.
    pub fn login(&self, registry: &str, login: Login) -> Result<()> {
        let mut command = self.client(&["login", "-u", login.user, "--password-stdin", registry]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run docker login")?;
        child
            .stdin
            .take()
            .context("docker login takes no password")?
            .write_all(login.password.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "docker login: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// Notes a login without asking anybody, as for Docker Hub, whose mirrors get it.
    ///
    /// # Errors
    /// The client's configuration cannot be written.
    pub fn note_login(&self, server: &str, login: Login) -> Result<()> {
        let pair = format!("{}:{}", login.user, login.password);
        let auth = data_encoding::BASE64.encode(pair.as_bytes());
        let configuration = json!({"auths": {server: {"auth": auth}}}).to_string();
        fs::write(self.directory.join("client/config.json"), configuration)
            .context("cannot write docker's configuration")
    }

    /// `docker logout`: later pulls carry no credentials.
    ///
    /// # Errors
    /// The client fails.
    pub fn logout(&self, registry: &str) -> Result<()> {
        output_of(&mut self.client(&["logout", registry])).map(drop)
    }

    /// `docker pull`, and how long it took.
    ///
    /// # Errors
    /// The pull failed.
    pub fn pull(&self, reference: &str) -> Result<Duration> {
        let started = Instant::now();
        output_of(&mut self.client(&["pull", "--quiet", reference]))?;
        Ok(started.elapsed())
    }

    /// `docker pull` whose failure is of interest.
    ///
    /// # Errors
    /// Only that docker cannot be run.
    pub fn try_pull(&self, reference: &str) -> Result<Output> {
        self.client(&["pull", "--quiet", reference])
            .output()
            .context("cannot run docker pull")
    }

    /// `docker push`.
    ///
    /// # Errors
    /// The push failed.
    pub fn push(&self, reference: &str) -> Result<()> {
        output_of(&mut self.client(&["push", reference])).map(drop)
    }

    /// `docker load` of an archive.
    ///
    /// # Errors
    /// The archive is refused.
    pub fn load(&self, archive: &Path) -> Result<()> {
        let mut command = self.client(&["load", "--quiet", "--input"]);
        output_of(command.arg(archive)).map(drop)
    }

    /// The image's id: the digest of its configuration, which names the digest of each layer.
    ///
    /// # Errors
    /// There is no such image.
    pub fn image_id(&self, reference: &str) -> Result<String> {
        #[rustfmt::skip]
        let id = output_of(&mut self.client(&["image", "inspect", "--format", "{{.Id}}", reference]))?;
        Ok(id.trim().to_owned())
    }

    /// Removes the image and whatever no other image needs.
    ///
    /// # Errors
    /// The image is in use or unknown.
    pub fn remove_image(&self, reference: &str) -> Result<()> {
        output_of(&mut self.client(&["image", "rm", "--force", reference]))?;
        output_of(&mut self.client(&["image", "prune", "--all", "--force"])).map(drop)
    }

    /// Stops the engine; its store stays for the next one, or until the testbed is cleared.
    ///
    /// # Errors
    /// It does not stop.
    pub fn stop(mut self) -> Result<()> {
        self.process.terminate(STOP_TIMEOUT).map(drop)
    }

    /// Stops the engine and removes its store, for the room it takes.
    ///
    /// # Errors
    /// It does not stop, or something stays mounted.
    pub fn discard(self) -> Result<()> {
        let directory = self.directory.clone();
        self.stop()?;
        unmount_below(&directory)?;
        fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot remove {}", directory.display()))
    }
}
