//! Credentials in a file as Docker (`config.json`) and podman (`auth.json`,
//! containers-auth.json(5)) write it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::logins::Logins;

/// A file of credentials for a thousand registries has 200 KiB.
const MAX_BYTES: u64 = 1024 * 1024;

/// The file does not give credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthFileError {
    /// It cannot be read.
    #[error("registry credentials {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not what Docker or podman writes. The reason holds nothing of its content but names
    /// of registries.
    #[error("registry credentials {path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The file, read again whenever it has changed.
#[derive(Debug)]
pub(super) struct AuthFile {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    stamp: Option<Stamp>,
    logins: Arc<Logins>,
}

/// Tells one version of the file from the next; a mounted secret is replaced by renaming.
type Stamp = (SystemTime, u64, u64);

impl AuthFile {
    /// # Errors
    /// The file cannot be read or is malformed.
    pub(super) fn open(path: &Path) -> Result<Self, AuthFileError> {
        let (stamp, logins) = read(path, 0)?;
        Ok(Self {
            path: path.to_owned(),
            known: Mutex::new(Known {
                stamp: Some(stamp),
                logins: Arc::new(logins),
            }),
        })
    }

    /// What the file says now; what it said before while it cannot be read.
    pub(super) async fn logins(&self) -> Arc<Logins> {
        let known = self.known.lock().clone();
        let path = self.path.clone();
        let version = known.logins.version + 1;
        // A stat and at most one small file: for a blocking thread nevertheless.
        let looked = tokio::task::spawn_blocking(move || {
            let stamp = stamp(&path).ok();
            let is_new = stamp != known.stamp;
            is_new.then(|| (stamp, read(&path, version)))
        });
        let Ok(Some((stamp, found))) = looked.await else {
            return known.logins;
        };
        let mut current = self.known.lock();
        match found {
            Ok((stamp, logins)) => {
                tracing::info!(path = %self.path.display(), "registry credentials read again");
                *current = Known {
                    stamp: Some(stamp),
                    logins: Arc::new(logins),
                };
            }
            Err(error) => {
                tracing::warn!(%error, "registry credentials not read again: the earlier ones stay in use");
                // Said once for each version of the file.
                current.stamp = stamp;
            }
        }
        Arc::clone(&current.logins)
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.modified()?, metadata.len(), metadata.ino()))
}

fn read(path: &Path, version: u64) -> Result<(Stamp, Logins), AuthFileError> {
    let unreadable = |source| AuthFileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let stamp = stamp(path).map_err(unreadable)?;
    if stamp.1 > MAX_BYTES {
        let reason = format!("it has more than {MAX_BYTES} bytes");
        return Err(AuthFileError::Malformed {
            path: path.to_owned(),
            reason,
        });
    }
    let text = std::fs::read(path).map_err(unreadable)?;
    let logins = Logins::parse(&text, version).map_err(|reason| AuthFileError::Malformed {
        path: path.to_owned(),
        reason,
    })?;
    Ok((stamp, logins))
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    fn auth(user: &str) -> String {
        BASE64.encode(format!("{user}:p").as_bytes())
    }

    #[tokio::test]
    async fn the_file_is_read_again_when_it_was_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let replace = |text: &str| {
            let new = dir.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, &path).unwrap();
        };
        let one =
            |user: &str| serde_json::json!({"auths": {"a.test": {"auth": auth(user)}}}).to_string();
        replace(&one("first"));
        let file = AuthFile::open(&path).unwrap();
        let user = async || {
            let logins = file.logins().await;
            let registry = "a.test".parse().unwrap();
            let credentials = logins.credentials(&registry, "x").await.unwrap();
            (credentials.unwrap().basic(), logins.version)
        };
        let basic = |user: &str| Some(format!("Basic {}", auth(user)));
        assert_eq!(user().await, (basic("first"), 0));
        replace(&one("second"));
        assert_eq!(user().await, (basic("second"), 1));
        replace("half a file");
        assert_eq!(user().await, (basic("second"), 1));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(user().await, (basic("second"), 1));
        replace(&one("third"));
        assert_eq!(user().await, (basic("third"), 2));
        assert!(AuthFile::open(&dir.path().join("missing")).is_err());
    }
}
