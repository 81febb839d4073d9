//! Where a call keeps what has arrived until it is complete.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use flotilla_client::store::private_dir;
use sha2::{Digest as _, Sha256};

use crate::error::GetError;

/// Locked while the directory is in use.
const LOCK_FILE: &str = "get.lock";

/// The directory, owned by this process while it lives.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
    /// Whether it is removed when everything is complete.
    is_own: bool,
    lock: File,
}

impl WorkDir {
    pub(crate) fn open(path: &Path, is_own: bool) -> Result<Self, GetError> {
        let claim = || {
            if is_own {
                return private_dir::claim(path, LOCK_FILE);
            }
            fs::create_dir_all(path)?;
            let lock = private_dir::open_lock(&path.join(LOCK_FILE))?;
            Ok(private_dir::try_lock(&lock)?.then_some(lock))
        };
        let lock = claim().map_err(|error| {
            GetError::Setup(format!(
                "data directory {} cannot be written: {error}; choose another with --data-dir",
                path.display()
            ))
        })?;
        let Some(lock) = lock else {
            return Err(GetError::Setup(format!(
                "data directory {} is in use by another flotilla get; wait for it, or give each its own --data-dir",
                path.display()
            )));
        };
        Ok(Self {
            path: path.to_owned(),
            is_own,
            lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of one file's parts.
    pub(crate) fn parts_of(&self, output: &Path) -> PathBuf {
        let hash = Sha256::digest(output.as_os_str().as_encoded_bytes());
        let name = HEXLOWER.encode(hash.get(..16).unwrap_or_default());
        self.path.join("parts").join(name)
    }

    /// Everything is complete: nothing of it is needed again.
    pub(crate) fn finish(self) {
        if self.is_own
            && let Err(error) = private_dir::remove(&self.path, LOCK_FILE, self.lock)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "work directory not removed");
        }
    }
}
