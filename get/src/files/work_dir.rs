//! Where a call keeps what has arrived until it is complete.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use flotilla_client::store::private_dir as own_directory;
use sha2::{Digest as _, Sha256};

use crate::error::GetError;

/// The directory, owned by this process while it lives.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
    /// Whether it is removed when everything is complete.
    is_own: bool,
    _lock: File,
}

impl WorkDir {
    pub(crate) fn open(path: &Path, is_own: bool) -> Result<Self, GetError> {
        let create = || {
            if is_own {
                own_directory::create(path)?;
            } else {
                fs::create_dir_all(path)?;
            }
            own_directory::lock_file(&path.join("get.lock"))
        };
        let lock = create().map_err(|error| {
            GetError::Setup(format!(
                "data directory {} cannot be written: {error}; choose another with --data-dir",
                path.display()
            ))
        })?;
        if !own_directory::try_lock(&lock).map_err(|error| GetError::io(path, error))? {
            return Err(GetError::Setup(format!(
                "data directory {} is in use by another flotilla get; wait for it, or give each its own --data-dir",
                path.display()
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            is_own,
            _lock: lock,
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
            && let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "work directory not removed");
        }
    }
}
