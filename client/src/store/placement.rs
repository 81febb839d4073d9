//! Makes a file of a cached layer without a second copy of its bytes, where the disk can do that.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// How a file got its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placed {
    /// It shares the cache's blocks until either of them is written (FICLONE).
    Reflink,
    /// It is a second name of the cache's file, and read-only: a write into it would be one
    /// into the cache.
    HardLink,
    /// It has its own copy.
    Copy,
}

/// Lets `output` appear, whole and durable, with the bytes of `cached`, in the place of what has
/// that name. Blocks on the disk.
///
/// The bytes are shared where that is possible. Where only a hard link can share them (ext4, or
/// XFS and btrfs without reflinks), the file is read-only, mode 0444: copy it before you change
/// it. A layer of another user is not linked but copied, since its owner could change it later.
///
/// # Errors
/// The directory of `output` cannot be written, or the disk refused; `output` is as it was.
pub fn place(cached: &Path, output: &Path) -> io::Result<Placed> {
    let directory = output
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let scratch = tempfile::Builder::new()
        .prefix(".flotilla-")
        .tempdir_in(directory)?;
    let unseen = scratch.path().join("file");
    let placed = make(cached, &unseen)?;
    File::open(&unseen)?.sync_all()?;
    fs::rename(&unseen, output)?;
    File::open(directory)?.sync_all()?;
    Ok(placed)
}

fn make(cached: &Path, file: &Path) -> io::Result<Placed> {
    let source = File::open(cached)?;
    // What others may do with it is for the umask to say.
    let mut target = File::create_new(file)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
        return Ok(Placed::Reflink);
    }
    if is_own(&source)? {
        fs::remove_file(file)?;
        if hard_link(cached, file).is_ok() {
            return Ok(Placed::HardLink);
        }
        target = File::create_new(file)?;
    }
    io::copy(&mut &source, &mut target)?;
    Ok(Placed::Copy)
}

/// The mode first: there is no moment at which the new name could be written.
fn hard_link(cached: &Path, file: &Path) -> io::Result<()> {
    fs::set_permissions(cached, Permissions::from_mode(0o444))?;
    fs::hard_link(cached, file)
}

fn is_own(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.uid() == rustix::process::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_bytes_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (cached, output) = (dir.path().join("data"), dir.path().join("out"));
        fs::write(&cached, "some bytes").unwrap();
        fs::write(&output, "an older file").unwrap();
        let placed = place(&cached, &output).unwrap();
        assert_eq!(fs::read(&output).unwrap(), b"some bytes");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        let (from, to) = (
            fs::metadata(&cached).unwrap(),
            fs::metadata(&output).unwrap(),
        );
        assert_eq!(placed == Placed::HardLink, from.ino() == to.ino());
        if placed == Placed::HardLink {
            assert_eq!(
                to.mode() & 0o777,
                0o444,
                "a writable name of the cache's bytes"
            );
        }
    }

    #[test]
    fn on_another_file_system_the_file_is_a_copy() {
        let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let cached = dir.path().join("data");
        fs::write(&cached, "some bytes").unwrap();
        if dir.path().metadata().unwrap().dev() == other.path().metadata().unwrap().dev() {
            return;
        }
        let output = other.path().join("out");
        assert_eq!(place(&cached, &output).unwrap(), Placed::Copy);
        assert_eq!(fs::read(&output).unwrap(), b"some bytes");
        assert_ne!(fs::metadata(&output).unwrap().mode() & 0o200, 0);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_and_the_cache_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cached = dir.path().join("data");
        fs::write(&cached, "some bytes").unwrap();
        assert!(place(&cached, &dir.path().join("no/out")).is_err());
        assert_eq!(fs::read(&cached).unwrap(), b"some bytes");
    }
}
