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
    let found = loop {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match fs::symlink_metadata(path) {
            // The process that had it has removed it since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => break found?,
        }
    };
    let is_own = found.uid() == rustix::process::geteuid().as_raw();
    if found.is_dir() && is_own && found.mode() & OTHERS_WRITE == 0 {
        return Ok(());
    }
    let reason =
        "it is not a directory that this user owns and no other user can write to: remove it";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

/// Makes the directory as [`create`] does, and locks it with the file `name` in it until that file is
/// closed; none: another process has it locked.
///
/// # Errors
/// As [`create`], or the file cannot be opened or locked.
pub fn claim(dir: &Path, name: &str) -> io::Result<Option<File>> {
    let path = dir.join(name);
    loop {
        create(dir)?;
        let file = match open_lock(&path) {
            Ok(file) => file,
            // A process that was done with the directory has removed it since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if !try_lock(&file)? {
            return Ok(None);
        }
        // The same, between opening and locking: this file is in no directory any more.
        let locked = file.metadata()?;
        match fs::symlink_metadata(&path) {
            Ok(found) if (found.dev(), found.ino()) == (locked.dev(), locked.ino()) => {
                return Ok(Some(file));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

/// Removes a directory that this process has claimed with the file `name`, and gives it up.
///
/// # Errors
/// The disk refused. That another process has claimed the directory meanwhile is no error.
pub fn remove(dir: &Path, name: &str, claim: File) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Last: without it another process claims the directory, and what it makes there is its own.
        if entry.file_name() == name {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_file(dir.join(name))?;
    drop(claim);
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        // Claimed and removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Opens the file that is locked while a directory is in use; a symbolic link is not followed.
pub fn open_lock(path: &Path) -> io::Result<File> {
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
        assert!(open_lock(&link).is_err());
        assert!(create(&link).is_err());
        fs::create_dir(dir.path().join("d")).unwrap();
        let linked = dir.path().join("linked");
        symlink(dir.path().join("d"), &linked).unwrap();
        assert!(create(&linked).is_err());
        let lock = open_lock(&dir.path().join("lock")).unwrap();
        let another = open_lock(&dir.path().join("lock")).unwrap();
        assert!(try_lock(&lock).unwrap() && !try_lock(&another).unwrap());
        drop(lock);
        assert!(try_lock(&another).unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn a_directory_that_others_remove_when_they_are_done_is_claimed_by_one_at_a_time() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("work");
        let inside = dir.join("inside");
        let claims = || {
            let mut claims = 0;
            for _ in 0..200 {
                let Some(lock) = claim(&dir, "lock").unwrap() else {
                    continue;
                };
                claims += 1;
                fs::create_dir(&inside).unwrap();
                fs::write(inside.join("file"), "bytes").unwrap();
                assert!(inside.join("file").is_file());
                remove(&dir, "lock", lock).unwrap();
            }
            claims
        };
        let claims: u32 = std::thread::scope(|scope| {
            let started: Vec<_> = (0..8).map(|_| scope.spawn(claims)).collect();
            started.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert!(claims >= 1 && !dir.exists());
    }
}
