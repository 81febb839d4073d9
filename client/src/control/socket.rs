//! The socket itself: private from its first moment, and gone when its host is.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::SOCKET;

/// Bytes of `sun_path` without its zero (unix(7)).
const MAX_PATH_LENGTH: usize = 107;

/// A data directory has no control socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The system has no sockets with such a path.
    #[error("{path} is too long for a socket by {excess} bytes; choose a shorter --data-dir")]
    TooLong {
        /// Where the socket would be.
        path: PathBuf,
        /// By how much.
        excess: usize,
    },
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// Where the socket would be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Removes the socket when it is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// Makes the socket in `data_dir`, in the place of one that a dead host left. The caller
/// has locked the directory.
pub(super) fn bind(data_dir: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let path = data_dir.join(SOCKET);
    let excess = path.as_os_str().len().saturating_sub(MAX_PATH_LENGTH);
    if excess > 0 {
        return Err(SocketError::TooLong { path, excess });
    }
    bind_at(data_dir, &path).map_err(|source| SocketError::Io { path, source })
}

fn bind_at(data_dir: &Path, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    // Between bind and chmod others could connect: in a directory of its own they cannot. Its
    // name is shorter than the final one.
    let private = tempfile::Builder::new()
        .prefix(".c")
        .rand_bytes(6)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(data_dir)?;
    let unseen = private.path().join("s");
    let listener = UnixListener::bind(&unseen)?;
    fs::set_permissions(&unseen, Permissions::from_mode(0o600))?;
    let inode = fs::symlink_metadata(&unseen)?.ino();
    fs::rename(&unseen, path)?;
    let file = SocketFile {
        path: path.to_owned(),
        inode,
    };
    Ok((listener, file))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|now| now.ino() == self.inode);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "control socket not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_private_replaces_a_dead_one_and_leaves_with_its_host() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (listener, file) = bind(dir.path()).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let connected = tokio::net::UnixStream::connect(&path);
        let (connected, accepted) = tokio::join!(connected, listener.accept());
        assert!(connected.is_ok() && accepted.is_ok());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (_first, old) = bind(dir.path()).unwrap();
        let (_second, _new) = bind(dir.path()).unwrap();
        drop(old);
        assert!(dir.path().join(SOCKET).exists());
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(100));
        fs::create_dir(&deep).unwrap();
        let error = bind(&deep).unwrap_err().to_string();
        assert!(
            error.contains("too long") && error.contains("--data-dir"),
            "{error}"
        );
    }
}
