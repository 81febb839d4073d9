//! A private network of hosts, with a scratch directory, cleared when it is dropped.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::lifetime::Lifetime;
use crate::network::host::{Host, HostPlan};
use crate::network::namespace::{Namespace, run};
use crate::processes::interruption::{protect, release};
use crate::scratch::scratch_root;
use crate::sweep::{KEPT_MARKER, sweep, sweep_stale, testbed_name};

const BRIDGE: &str = "br0";
const LOCK_FILE: &str = "flotilla-testbed.lock";
const SWITCH: &str = "switch";

static CREATED: AtomicU32 = AtomicU32::new(1);

/// A private network of hosts on one switch.
///
/// Only one exists on the machine at a time: timings of two would disturb each other.
#[derive(Debug)]
pub struct Testbed {
    name: String,
    directory: PathBuf,
    switch: Namespace,
    hosts: u16,
    lifetime: Lifetime,
    kept: bool,
    _lock: File,
}

impl Testbed {
    /// Waits for any other testbed to end, clears what dead ones left, and creates the switch.
    ///
    /// # Errors
    /// Not root, or a program (iproute2, util-linux) is missing.
    pub fn create(lifetime: Lifetime) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("network namespaces need root: run this as root or with sudo");
        }
        let lock = lock_machine()?;
        sweep_stale()?;
        let name = testbed_name(CREATED.fetch_add(1, Ordering::Relaxed));
        protect(&name);
        match Self::build(name.clone(), lifetime, lock) {
            Ok(testbed) => Ok(testbed),
            Err(error) => {
                let _ = sweep(&name);
                release(&name);
                Err(error)
            }
        }
    }

    fn build(name: String, lifetime: Lifetime, lock: File) -> Result<Self> {
        let directory = scratch_root().join(&name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        let switch = Namespace::create(&format!("{name}-{SWITCH}"))?;
        #[rustfmt::skip]
        run("ip", &["-n", switch.name(), "link", "add", BRIDGE, "type", "bridge"])?;
        run("ip", &["-n", switch.name(), "link", "set", BRIDGE, "up"])?;
        Ok(Self {
            name,
            directory,
            switch,
            hosts: 0,
            lifetime,
            kept: false,
            _lock: lock,
        })
    }

    /// Adds a host with an unshaped link.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn host(&mut self, name: &str) -> Result<Host> {
        // Host parts 1, 2, 3, ... of 10.77.0.0/16.
        self.hosts = self.hosts.checked_add(1).context("too many hosts")?;
        Host::create(HostPlan {
            testbed: &self.name,
            name,
            number: self.hosts,
            directory: self.directory.join(name),
            switch: &self.switch,
            bridge: BRIDGE,
            lifetime: self.lifetime,
        })
        .with_context(|| format!("cannot create host {name}"))
    }

    /// A directory for everything the testbed writes; removed with it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Leaves everything running when the testbed is dropped.
    ///
    /// # Errors
    /// The marker cannot be written, or the testbed was created to die with its process.
    pub fn keep(&mut self) -> Result<()> {
        if self.lifetime != Lifetime::UntilStopped {
            bail!("a testbed that dies with its process cannot be kept");
        }
        fs::write(self.directory.join(KEPT_MARKER), "").context("cannot mark the testbed")?;
        self.kept = true;
        release(&self.name);
        Ok(())
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = sweep(&self.name) {
            eprintln!("testbed {}: {error:#}", self.name);
        }
        release(&self.name);
    }
}

fn lock_machine() -> Result<File> {
    let path = std::env::temp_dir().join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    flock(&file, FlockOperation::LockExclusive).context("cannot lock the machine's testbed")?;
    Ok(file)
}
