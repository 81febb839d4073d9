//! containerd, which reaches its registry through a mirror that `hosts.toml` names.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::engines::cri;
use crate::network::host::Host;
use crate::network::namespace::output_of;
use crate::processes::process::Process;
use crate::registries::login::Login;
use crate::registries::registry::Registry;

const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A running containerd with a content store of its own.
#[derive(Debug)]
pub struct Containerd {
    _process: Process,
    host: Host,
    socket: PathBuf,
    hosts: PathBuf,
}

impl Containerd {
    /// Starts containerd on `host`, configured to take images of `registry` from the node's proxy.
    ///
    /// # Errors
    /// `containerd` is missing or does not start.
    pub fn start(host: &Host, registry: &Registry) -> Result<Self> {
        let directory = host.directory().join("containerd");
        let hosts = directory.join("certs.d");
        let registry_hosts = hosts.join(registry.address());
        fs::create_dir_all(&registry_hosts).context("cannot create containerd's directory")?;
        let mirror = format!(
            "server = \"{}://{}\"\n\
             [host.\"http://127.0.0.1:65001\"]\n\
             capabilities = [\"pull\", \"resolve\"]\n",
            registry.scheme(),
            registry.address()
        );
        fs::write(registry_hosts.join("hosts.toml"), mirror).context("cannot write hosts.toml")?;
        let socket = directory.join("containerd.sock");
        let configuration = directory.join("config.toml");
        let shown = directory.display();
        let settings = format!(
            "version = 2\nroot = \"{shown}/root\"\nstate = \"{shown}/state\"\n\
             [grpc]\naddress = \"{shown}/containerd.sock\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".registry]\n\
             config_path = \"{shown}/certs.d\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{shown}/opt\"\n"
        );
        fs::write(&configuration, settings).context("cannot write config.toml")?;
        let mut command = host.service("containerd");
        command.arg("--config").arg(&configuration);
        let mut process = Process::start("containerd", host.directory(), command)?;
        let mut version = Command::new("ctr");
        version.arg("--address").arg(&socket).arg("version");
        process.wait_ready(READY_TIMEOUT, |_| {
            version.output().is_ok_and(|output| output.status.success())
        })?;
        Ok(Self {
            _process: process,
            host: host.clone(),
            socket,
            hosts,
        })
    }

    /// Fetches all content of an image; containerd verifies each blob's digest.
    ///
    /// # Errors
    /// Something could not be fetched.
    pub fn fetch(&self, reference: &str, registry: &Registry) -> Result<()> {
        let login = registry.login();
        let user = format!("--user={}:{}", login.user, login.password);
        output_of(self.fetching().arg(user).arg(reference)).map(drop)
    }

    /// Pulls an image as the kubelet does, through the CRI; its id.
    ///
    /// # Errors
    /// Refused, or something could not be fetched.
    pub fn pull_by_cri(&self, reference: &str, login: Option<Login>) -> Result<String> {
        cri::pull_image(&self.socket, reference, login)
    }

    /// The same without credentials.
    ///
    /// # Errors
    /// As is to be expected of a private image.
    pub fn fetch_anonymously(&self, reference: &str) -> Result<()> {
        output_of(self.fetching().arg(reference)).map(drop)
    }

    fn fetching(&self) -> Command {
        let mut command = self.host.command("ctr");
        command.arg("--address").arg(&self.socket);
        command
            .args(["content", "fetch", "--hosts-dir"])
            .arg(&self.hosts);
        command
    }

    /// Whether the blob is in the content store.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub fn has(&self, digest: &str) -> Result<bool> {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket);
        let listed = output_of(command.args(["content", "ls", "--quiet"]))?;
        Ok(listed.lines().any(|line| line.trim() == digest))
    }
}
