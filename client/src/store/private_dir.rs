//! Directories beside a file that is still arriving: their names can be guessed, so that another user
//! may have made them first.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags};

const OTHERS_WRITE: u32 = 0o022;

/// Makes the directory, which no other user can enter, or takes one of an earlier run.
///
/// # Errors
/// It cannot be made, or what is there is not this user's own directory, or others may write to it.
pub fn create(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw();
    if found.is_dir() && is_own && found.mode() & OTHERS_WRITE == 0 {
        return Ok(());
    }
    let reason =
        "it is not a directory that this user owns and no other user can write to: remove it";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

/// Opens the file that is locked while a directory is in use; a symbolic link is not followed.
pub fn lock_file(path: &Path) -> io::Result<File> {
    let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    options.custom_flags(no_link).open(path)
}

/// Locks the file until it is closed, or the process ends; false: another process has it locked.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_another_user_may_have_prepared_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/.file.flotilla");
        create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(create(&path).is_err());

        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        assert!(lock_file(&link).is_err());
        assert!(create(&link).is_err());
        fs::create_dir(dir.path().join("d")).unwrap();
        let linked = dir.path().join("linked");
        symlink(dir.path().join("d"), &linked).unwrap();
        assert!(create(&linked).is_err());
        let lock = lock_file(&dir.path().join("lock")).unwrap();
        let another = lock_file(&dir.path().join("lock")).unwrap();
        assert!(try_lock(&lock).unwrap() && !try_lock(&another).unwrap());
        drop(lock);
        assert!(try_lock(&another).unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }
}
