//! Clearing a testbed by its name: its processes, mounts, namespaces and directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::network::namespace::{NAMESPACE_DIR, run};
use crate::processes::deadline::wait_until;
use crate::scratch::scratch_root;

/// A file in the testbed's directory: it outlives the process that made it, until it is stopped.
pub(crate) const KEPT_MARKER: &str = "kept";
const NAME_PREFIX: &str = "fl-";
const PROCESS_EXIT_TIMEOUT: Duration = Duration::from_secs(20);

/// The name of the `number`th testbed of this process.
pub(crate) fn testbed_name(number: u32) -> String {
    format!("{NAME_PREFIX}{}-{number}", std::process::id())
}

/// Clears what is left of testbeds whose process is gone, except those that were kept on purpose.
///
/// # Errors
/// Something of theirs cannot be removed.
pub fn sweep_stale() -> Result<()> {
    for name in existing_testbeds()? {
        if !is_owner_alive(&name) && !is_kept(&name) {
            sweep(&name)?;
        }
    }
    Ok(())
}

/// Clears the testbeds that were kept on purpose and returns their names.
///
/// # Errors
/// Something of theirs cannot be removed.
pub fn stop_kept() -> Result<Vec<String>> {
    let kept: Vec<String> = existing_testbeds()?
        .into_iter()
        .filter(|name| is_kept(name) && !is_owner_alive(name))
        .collect();
    for name in &kept {
        sweep(name)?;
    }
    Ok(kept)
}

/// Clears everything of one testbed. May be called again, also while another thread does.
pub(crate) fn sweep(testbed: &str) -> Result<()> {
    end_processes(testbed)?;
    let directory = scratch_root().join(testbed);
    unmount_below(&directory)?;
    for namespace in namespaces_of(testbed)? {
        if let Err(error) = run("ip", &["netns", "delete", &namespace])
            && Path::new(NAMESPACE_DIR).join(&namespace).exists()
        {
            return Err(error);
        }
    }
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Ends by id whatever runs inside the testbed's namespaces: nothing else can be in there.
fn end_processes(testbed: &str) -> Result<()> {
    wait_until("processes of the testbed end", PROCESS_EXIT_TIMEOUT, || {
        let mut left = 0_usize;
        for namespace in namespaces_of(testbed)? {
            let ids = run("ip", &["netns", "pids", &namespace]).unwrap_or_default();
            for id in ids.split_whitespace().filter_map(|id| id.parse().ok()) {
                if let Some(process) = Pid::from_raw(id) {
                    left += 1;
                    // Gone in between: the next round does not list it.
                    let _ = kill_process(process, Signal::KILL);
                }
            }
        }
        Ok((left == 0).then_some(()))
    })
}

/// Unmounts what engines have mounted below `directory`, the innermost first.
pub(crate) fn unmount_below(directory: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    // Field 5 is the mount point (proc(5)); our own paths hold nothing that would be escaped.
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut ours: Vec<&str> = points
        .filter(|point| Path::new(point).starts_with(directory))
        .collect();
    ours.reverse();
    for point in ours {
        if let Err(error) = run("umount", &["--lazy", point])
            && is_mounted(point)?
        {
            return Err(error);
        }
    }
    Ok(())
}

fn is_mounted(point: &str) -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    Ok(mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(point)))
}

fn namespaces_of(testbed: &str) -> Result<Vec<String>> {
    let prefix = format!("{testbed}-");
    let names = names_in(&PathBuf::from(NAMESPACE_DIR))?;
    Ok(names
        .into_iter()
        .filter(|name| name.starts_with(&prefix))
        .collect())
}

/// Names of all testbeds that have left a namespace or a directory.
fn existing_testbeds() -> Result<Vec<String>> {
    let mut found = names_in(&PathBuf::from(NAMESPACE_DIR))?;
    found.extend(names_in(&scratch_root())?);
    let mut names: Vec<String> = found
        .iter()
        .filter_map(|name| owner_and_name(name))
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// `fl-<process id>-<number>` of `fl-<process id>-<number>[-<host>]`.
fn owner_and_name(entry: &str) -> Option<String> {
    let mut parts = entry.strip_prefix(NAME_PREFIX)?.splitn(3, '-');
    let owner: u32 = parts.next()?.parse().ok()?;
    let number: u32 = parts.next()?.parse().ok()?;
    Some(format!("{NAME_PREFIX}{owner}-{number}"))
}

fn is_owner_alive(testbed: &str) -> bool {
    testbed
        .strip_prefix(NAME_PREFIX)
        .and_then(|rest| rest.split('-').next())
        .is_some_and(|owner| Path::new("/proc").join(owner).exists())
}

fn is_kept(testbed: &str) -> bool {
    scratch_root().join(testbed).join(KEPT_MARKER).exists()
}

fn names_in(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => bail!("cannot list {}: {error}", directory.display()),
    };
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::owner_and_name;

    #[test]
    fn a_testbed_is_recognised_by_its_namespaces_and_nothing_else_is() {
        assert_eq!(owner_and_name("fl-12-3-node-1").as_deref(), Some("fl-12-3"));
        assert_eq!(owner_and_name("fl-12-3").as_deref(), Some("fl-12-3"));
        assert_eq!(owner_and_name("fl-x-3"), None);
        assert_eq!(owner_and_name("flannel"), None);
    }
}
