//! Network namespaces by name, and short commands run to their end.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Where iproute2 keeps named namespaces.
pub(crate) const NAMESPACE_DIR: &str = "/var/run/netns";

/// A network namespace, created by name.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates the namespace and brings its loopback up.
    pub(crate) fn create(name: &str) -> Result<Self> {
        run("ip", &["netns", "add", name])?;
        run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        Ok(Self {
            name: name.to_owned(),
        })
    }

    /// The name that `ip -n` and `tc -n` take.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A command that enters only the network namespace. `ip netns exec` would also remount
    /// `/sys`, and dockerd then finds no cgroups.
    pub(crate) fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display()));
        command
    }

    /// What `setns` takes, opened.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(NAMESPACE_DIR).join(&self.name)
    }
}

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// The program is missing or fails; the error holds its error output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    output_of(Command::new(program).args(arguments))
}

/// Runs a prepared command to its end and returns what it printed.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
