//! The cluster's join token, and the read-only statistics token.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use data_encoding::HEXLOWER;
use flotilla_client::secret_file;

use super::secrets::SecretFile;

/// Holds the join token.
pub(crate) const JOIN_VARIABLE: &str = "FLOTILLA_JOIN_TOKEN";
/// Holds the statistics token.
pub(crate) const STATS_VARIABLE: &str = "FLOTILLA_STATS_TOKEN";
/// A shorter secret can be guessed.
const MIN_LENGTH: usize = 16;

/// The cluster's secret, if there is one.
///
/// # Errors
/// Its file cannot be read, or it can be guessed.
pub(crate) fn given(file: &SecretFile) -> anyhow::Result<Option<String>> {
    read(file, JOIN_VARIABLE, "join token")
}

/// The token that shows the statistics and nothing else, if there is one.
///
/// # Errors
/// Its file cannot be read, or it can be guessed.
pub(crate) fn for_stats(file: &SecretFile) -> anyhow::Result<Option<String>> {
    read(file, STATS_VARIABLE, "statistics token")
}

fn read(file: &SecretFile, variable: &str, what: &str) -> anyhow::Result<Option<String>> {
    let Some(found) = file.read(variable, what)? else {
        return Ok(None);
    };
    let token = found.text.trim();
    if token.is_empty() {
        if found.is_file {
            bail!(
                "{}: the file is empty; write a secret into it, or remove it",
                found.place
            );
        }
        return Ok(None);
    }
    if token.len() < MIN_LENGTH || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!(
            "{}: expected at least {MIN_LENGTH} printable characters without spaces",
            found.place
        );
    }
    Ok(Some(token.to_owned()))
}

/// A supernode's secret. Without one, a supernode that other machines can reach makes one on its
/// first start; on loopback the cluster is open.
///
/// # Errors
/// A file cannot be read or written, or the secret can be guessed.
pub(crate) fn of_supernode(
    file: &SecretFile,
    listen: SocketAddr,
    data_dir: &Path,
) -> anyhow::Result<Option<String>> {
    if let Some(token) = given(file)? {
        return Ok(Some(token));
    }
    if listen.ip().is_loopback() {
        return Ok(None);
    }
    let path = data_dir.join("join-token");
    let token = HEXLOWER.encode(&rand::random::<[u8; 32]>());
    let context = || format!("join token file {}", path.display());
    if !path.try_exists().with_context(context)?
        && secret_file::create(&path, format!("{token}\n").as_bytes()).with_context(context)?
    {
        eprintln!(
            "flotilla: new join token in {path}; a node joins with\n\
             flotilla:   FLOTILLA_JOIN_TOKEN={token} flotilla proxy --supernode http://{listen} …\n\
             flotilla: or with --join-token-file and a copy of that file; the other supernodes of this cluster need the same token",
            path = path.display(),
        );
    }
    given(&SecretFile::of_flag(Some(&path)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_supernode_that_others_can_reach_makes_a_secret_and_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let listen = "10.0.0.1:8001".parse().unwrap();
        let first = of_supernode(&SecretFile::default(), listen, dir.path())
            .unwrap()
            .unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(
            of_supernode(&SecretFile::default(), listen, dir.path()).unwrap(),
            Some(first)
        );
        let mode = fs::metadata(dir.path().join("join-token"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn on_loopback_the_cluster_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let listen = "127.0.0.1:8001".parse().unwrap();
        assert_eq!(
            of_supernode(&SecretFile::default(), listen, dir.path()).unwrap(),
            None
        );
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "secret").unwrap();
        assert!(given(&SecretFile::of_flag(Some(file.path()))).is_err());
    }

    #[test]
    fn an_empty_file_does_not_open_the_cluster_to_all() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("join-token"), "\n").unwrap();
        let listen = "10.0.0.1:8001".parse().unwrap();
        let refused = of_supernode(&SecretFile::default(), listen, dir.path());
        assert!(refused.unwrap_err().to_string().contains("is empty"));
    }
}
