//! The programs under test: supernode, proxy and get, each on a host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::network::host::Host;
use crate::processes::process::Process;

const READY_TIMEOUT: Duration = Duration::from_secs(20);
const API_PORT: u16 = 8001;
const PEER_PORT: u16 = 65002;
const JOIN_TOKEN: &str = "testbed-join-token";
const JOIN_TOKEN_VARIABLE: &str = "FLOTILLA_JOIN_TOKEN";
const BINARY_VARIABLE: &str = "FLOTILLA_BINARY";
const LOG_VARIABLE: &str = "FLOTILLA_LOG";

/// Programs are in the directory of their build, and tests one below it.
fn built_beside(program: &Path) -> PathBuf {
    let dir = program.parent().unwrap_or(Path::new("."));
    let dir = match dir.parent() {
        Some(above) if dir.ends_with("deps") => above,
        _ => dir,
    };
    dir.join("flotilla")
}

/// The `flotilla` binary and the cluster's secret.
#[derive(Clone, Debug)]
pub struct Flotilla {
    binary: PathBuf,
}

impl Flotilla {
    /// The binary that `FLOTILLA_BINARY` names, else the one of the same build as this program.
    ///
    /// # Errors
    /// It is missing.
    pub fn find() -> Result<Self> {
        let binary = match std::env::var_os(BINARY_VARIABLE) {
            Some(named) => PathBuf::from(named),
            None => built_beside(&std::env::current_exe()?),
        };
        if !binary.is_file() {
            bail!(
                "no flotilla binary at {}: run `make build`",
                binary.display()
            );
        }
        Ok(Self {
            binary: binary.canonicalize()?,
        })
    }

    /// Where it is.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// `flotilla` on `host` as a member of the cluster, to its end.
    pub fn command(&self, host: &Host) -> Command {
        let mut command = host.command(&self.binary);
        command.env(JOIN_TOKEN_VARIABLE, JOIN_TOKEN);
        command
    }

    /// The environment variable and the value that make a program a member of the cluster.
    pub fn join_token(&self) -> (&'static str, &'static str) {
        (JOIN_TOKEN_VARIABLE, JOIN_TOKEN)
    }

    /// `flotilla` on `host` for as long as it is not stopped.
    pub fn service(&self, host: &Host) -> Command {
        let mut command = host.service(&self.binary);
        command.env(JOIN_TOKEN_VARIABLE, JOIN_TOKEN);
        if std::env::var_os(LOG_VARIABLE).is_none() {
            command.env(LOG_VARIABLE, "info");
        }
        command
    }
}

/// A running supernode.
#[derive(Debug)]
pub struct Supernode {
    /// The process.
    pub process: Process,
    url: String,
}

impl Supernode {
    /// Starts a supernode on `host` and waits until it serves.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(flotilla: &Flotilla, host: &Host) -> Result<Self> {
        Self::start_with(flotilla, host, &[])
    }

    /// The same with further arguments.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_with(flotilla: &Flotilla, host: &Host, arguments: &[String]) -> Result<Self> {
        let listen = format!("{}:{API_PORT}", host.address());
        let mut command = flotilla.service(host);
        command.args(["supernode", "--listen", &listen, "--data-dir"]);
        command.arg(host.directory().join("supernode"));
        command.args(arguments);
        let mut process = Process::start("supernode", host.directory(), command)?;
        wait_until_serving(&mut process)?;
        Ok(Self {
            process,
            url: format!("http://{listen}"),
        })
    }

    /// What nodes are given as `--supernode`.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The options of a node's proxy.
#[derive(Clone, Debug, Default)]
pub struct ProxyOptions {
    /// Supernodes in the order they are given to the proxy.
    pub supernodes: Vec<String>,
    /// Further arguments.
    pub arguments: Vec<String>,
}

impl ProxyOptions {
    /// Only these supernodes, the rest by default.
    pub fn with_supernodes(supernodes: &[&str]) -> Self {
        Self {
            supernodes: supernodes.iter().map(|url| (*url).to_owned()).collect(),
            arguments: Vec::new(),
        }
    }
}

/// A node's running proxy.
#[derive(Debug)]
pub struct NodeProxy {
    /// The process.
    pub process: Process,
}

impl NodeProxy {
    /// Starts the proxy on `host` and waits until it serves.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(flotilla: &Flotilla, host: &Host, options: &ProxyOptions) -> Result<Self> {
        let mut command = flotilla.service(host);
        command.args(["proxy", "--listen", "127.0.0.1:65001", "--peer-listen"]);
        command.arg(format!("{}:{PEER_PORT}", host.address()));
        command.args(["--supernode", &options.supernodes.join(",")]);
        command.arg("--data-dir").arg(host.directory().join("node"));
        command.args(&options.arguments);
        let mut process = Process::start("proxy", host.directory(), command)?;
        wait_until_serving(&mut process)?;
        Ok(Self { process })
    }
}

/// The options of a `flotilla get`.
#[derive(Clone, Debug, Default)]
pub struct GetOptions {
    /// Supernodes in the order they are given.
    pub supernodes: Vec<String>,
    /// Further arguments, such as `--digest` or `--seed-for`.
    pub arguments: Vec<String>,
}

/// A running `flotilla get`.
#[derive(Debug)]
pub struct Get {
    /// The process.
    pub process: Process,
    file: PathBuf,
}

impl Get {
    /// Starts to get `url` into a file of `host`.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn start(
        flotilla: &Flotilla,
        host: &Host,
        url: &str,
        options: &GetOptions,
    ) -> Result<Self> {
        let file = host.directory().join("got");
        let mut command = flotilla.service(host);
        command.args(["get", url, "-o"]).arg(&file);
        command.args(["--supernode", &options.supernodes.join(",")]);
        command.arg("--data-dir").arg(host.directory().join("node"));
        command.args(&options.arguments);
        Ok(Self {
            process: Process::start("get", host.directory(), command)?,
            file,
        })
    }

    /// The file it is to produce.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the file has appeared, which it does whole and verified.
    pub fn is_complete(&self) -> bool {
        self.file.exists()
    }
}

/// Each program prints one line when it serves.
fn wait_until_serving(process: &mut Process) -> Result<()> {
    process.wait_ready(READY_TIMEOUT, |process| {
        process
            .output()
            .split_inclusive('\n')
            .any(|line| line.ends_with('\n') && line.contains("ready"))
    })
}
