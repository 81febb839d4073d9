//! The cluster's secret, and that of those who only look.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use data_encoding::HEXLOWER;

const VARIABLE: &str = "FLOTILLA_JOIN_TOKEN";
const STATS_VARIABLE: &str = "FLOTILLA_STATS_TOKEN";
/// A shorter secret can be guessed.
const LEAST_LENGTH: usize = 16;

/// The secret that the operator gave: the file of the flag, else the environment, else the
/// file of the configuration.
pub(crate) fn given(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    read(file, VARIABLE, "join token")
}

/// What lets the statistics be seen, besides the join token.
pub(crate) fn for_stats(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    read(file, STATS_VARIABLE, "statistics token")
}

fn read(file: Option<&Path>, variable: &str, what: &str) -> anyhow::Result<Option<String>> {
    let token = match (file, std::env::var(variable)) {
        (Some(path), _) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("{what} file {}", path.display()))?;
            Some(text)
        }
        (None, Ok(text)) => Some(text),
        (None, Err(_)) => None,
    };
    let Some(token) = token
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    if token.len() < LEAST_LENGTH || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("the {what} has to have at least {LEAST_LENGTH} printable characters without spaces");
    }
    Ok(Some(token))
}

/// A supernode's secret. One that others can reach and that was given none makes one on its
/// first start; on loopback the cluster is open.
pub(crate) fn of_supernode(
    file: Option<&Path>,
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
    if !path.exists() {
        let token = HEXLOWER.encode(&rand::random::<[u8; 32]>());
        let shown = || format!("join token file {}", path.display());
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(shown)?;
        writeln!(file, "{token}").with_context(shown)?;
        file.sync_all().with_context(shown)?;
        eprintln!(
            "flotilla: new join token in {path}; nodes join with\n\
             flotilla:   FLOTILLA_JOIN_TOKEN={token} flotilla proxy --supernode http://{listen} …\n\
             flotilla: or with --join-token-file and a copy of that file; other supernodes of this cluster need the same",
            path = path.display(),
        );
    }
    given(Some(&path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_supernode_that_others_can_reach_makes_a_secret_and_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let listen = "10.0.0.1:8001".parse().unwrap();
        let first = of_supernode(None, listen, dir.path()).unwrap().unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(of_supernode(None, listen, dir.path()).unwrap(), Some(first));
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
        assert_eq!(of_supernode(None, listen, dir.path()).unwrap(), None);
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "secret").unwrap();
        assert!(given(Some(file.path())).is_err());
    }
}
