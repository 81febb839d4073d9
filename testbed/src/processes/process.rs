//! A program that was started here: its logs, its cost, its end.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::processes::deadline::wait_until;

/// Ticks per second of `/proc/<id>/stat`: fixed at 100 for user space on Linux.
const CLOCK_TICKS: f64 = 100.0;
const LOG_EXCERPT: usize = 1200;

/// A running program with its output in files.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `<name>.out` and `<name>.err` of `directory`, in a
    /// process group of its own, so that a terminal's Ctrl-C reaches only us.
    ///
    /// # Errors
    /// The program or the directory is missing.
    pub fn start(name: &str, directory: &Path, mut command: Command) -> Result<Self> {
        let output = directory.join(format!("{name}.out"));
        let errors = directory.join(format!("{name}.err"));
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("cannot create {}", path.display()))
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(create(&output)?)
            .stderr(create(&errors)?)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            output,
            errors,
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        read_lossy(&self.output)
    }

    /// What it has printed on the error stream so far.
    pub fn errors(&self) -> String {
        read_lossy(&self.errors)
    }

    /// The file that holds its error stream.
    pub fn error_file(&self) -> &Path {
        &self.errors
    }

    /// Waits until `condition` holds while the program keeps running.
    ///
    /// # Errors
    /// The program ended, or the deadline passed; both with the end of its log.
    pub fn wait_ready(
        &mut self,
        deadline: Duration,
        mut condition: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        let what = format!("{} is ready", self.name);
        let outcome = wait_until(&what, deadline, || {
            if condition(self) {
                return Ok(Some(()));
            }
            match self.child.try_wait().context("cannot wait")? {
                Some(status) => bail!("{} ended: {status}", self.name),
                None => Ok(None),
            }
        });
        outcome.map_err(|error| anyhow!("{error:#}; its log ends: {}", self.log_end()))
    }

    /// Waits for the program to end by itself.
    ///
    /// # Errors
    /// Still running at the deadline.
    pub fn wait_exit(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        wait_until(&what, deadline, || {
            self.child.try_wait().context("cannot wait")
        })
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, as a crash would end it.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill")?;
        self.child.wait().context("cannot wait")?;
        Ok(())
    }

    /// SIGTERM, and its exit status.
    ///
    /// # Errors
    /// Still running at the deadline (then it is killed), or it was already gone.
    pub fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let id = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("no process id")?;
        if self.is_running() {
            kill_process(id, Signal::TERM).context("cannot signal")?;
        }
        let status = self.wait_exit(deadline);
        if status.is_err() {
            self.kill()?;
        }
        status
    }

    /// CPU seconds, user and system, that it has used so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id()))
            .with_context(|| format!("{} has ended", self.name))?;
        // Fields 14 and 15 (proc(5)); the second, the name, may hold spaces and ends with ')'.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks: f64 = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        Ok(ticks / CLOCK_TICKS)
    }

    /// The most memory it has held, in bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn peak_memory(&self) -> Result<u64> {
        self.memory_field("VmHWM:")
    }

    /// The memory that it holds, in bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn memory(&self) -> Result<u64> {
        self.memory_field("VmRSS:")
    }

    /// A field of `/proc/<id>/status` (proc(5)) in bytes.
    fn memory_field(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))
            .with_context(|| format!("{} has ended", self.name))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .map(|kibibytes| kibibytes * 1024)
            .with_context(|| format!("{} has ended", self.name))
    }

    fn log_end(&self) -> String {
        let log = format!("{}{}", self.output(), self.errors());
        let cut = log.len().saturating_sub(LOG_EXCERPT);
        let start = (cut..=log.len()).find(|&at| log.is_char_boundary(at));
        start
            .and_then(|at| log.get(at..))
            .unwrap_or_default()
            .to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either may find that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lossy(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}
