//! Calls of the real binary in a directory of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::daemon::Daemon;
use super::wait::{DEADLINE, until};

/// The secret of every cluster here.
pub const JOIN_TOKEN: &str = "secret-of-these-tests-alone";

pub struct Place(TempDir);

/// What a call left.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Outcome {
    /// The last JSON event of this kind.
    #[track_caller]
    pub fn event(&self, kind: &str) -> Value {
        let events = self
            .out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let last = events.rev().find(|event: &Value| event["event"] == kind);
        last.unwrap_or_else(|| panic!("no {kind}: {self:?}"))
    }
}

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub fn names(&self) -> Vec<String> {
        self.names_in("")
    }

    pub fn names_in(&self, dir: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(dir)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla"));
        command.args(arguments).current_dir(self.0.path());
        for variable in [
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "no_proxy",
            "NETRC",
        ] {
            command
                .env_remove(variable)
                .env_remove(variable.to_ascii_uppercase());
        }
        command.env("HOME", self.0.path());
        command.env("FLOTILLA_JOIN_TOKEN", JOIN_TOKEN);
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        Self::outcome(&mut self.command(arguments))
    }

    /// Runs a command to its end.
    pub fn outcome(command: &mut Command) -> Outcome {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Starts a supernode or a proxy on loopback, with its data in `data_dir`.
    pub fn daemon(&self, role: &str, data_dir: &Path, more: &[&str]) -> Daemon {
        let mut command = self.command(&[role, "--listen", "127.0.0.1:0"]);
        command.args(["--peer-listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(data_dir).args(more);
        Daemon::start(command, "ready")
    }

    fn get_command(&self, arguments: &[&str]) -> Command {
        self.command(&[&["get"], arguments].concat())
    }

    /// Runs `flotilla get` to its end.
    pub fn get(&self, arguments: &[&str]) -> Outcome {
        self.get_with(arguments, &[])
    }

    pub fn get_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
        let mut command = self.get_command(arguments);
        Self::outcome(command.envs(variables.iter().copied()))
    }

    /// Starts `flotilla get --json …`.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.get_command(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out }
    }
}

/// A program that ends with the test.
pub struct Background(pub Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    /// Waits until so many bytes are here.
    pub fn wait_for_bytes(&mut self, bytes: u64) {
        self.wait_for("progress", |event| event["bytes"].as_u64() >= Some(bytes));
    }

    pub fn wait_for(&mut self, kind: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let mut line = String::new();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "it ended");
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == kind && is_it(&event) {
                return event;
            }
            assert!(Instant::now() < deadline, "no such {kind}");
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; the exit code.
    pub fn exit_code(mut self) -> i32 {
        let end = || self.child.try_wait().unwrap();
        let status = until(|| "the end of the program".to_owned(), end);
        status.code().unwrap_or(-1)
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGINT; the exit code.
    pub fn interrupt(mut self) -> i32 {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).unwrap();
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn md5_of(bytes: &[u8]) -> String {
    use md5::Digest as _;
    let digest = md5::Md5::digest(bytes);
    format!("md5:{}", data_encoding::HEXLOWER.encode(&digest))
}
