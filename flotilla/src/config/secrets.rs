//! Where a secret is: in a file that a flag names, in the environment, or in a file that the
//! configuration names, in this order.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The files that may hold a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SecretFile {
    /// The flag's: it wins over the environment.
    pub(crate) flag: Option<PathBuf>,
    /// The configuration's: the environment wins over it.
    pub(crate) configured: Option<PathBuf>,
}

impl SecretFile {
    /// The file that a flag names, if it does.
    pub(crate) fn of_flag(path: Option<&Path>) -> Self {
        Self {
            flag: path.map(ToOwned::to_owned),
            configured: None,
        }
    }

    /// The secret's text, and where it was found; `what` names it in errors.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(&self, variable: &str, what: &str) -> anyhow::Result<Option<Found>> {
        let in_environment = || std::env::var(variable).ok();
        if let Some(path) = &self.flag {
            return of_file(path, what).map(Some);
        }
        if let Some(text) = in_environment() {
            let place = format!("{what} in {variable}");
            return Ok(Some(Found {
                text,
                place,
                is_file: false,
            }));
        }
        let configured = self.configured.as_deref();
        configured.map(|path| of_file(path, what)).transpose()
    }

    /// Where the secret is, for people; the secret itself is not read.
    pub(crate) fn place(&self, variable: &str) -> Option<String> {
        let of_file = |path: &PathBuf| path.display().to_string();
        let of_environment =
            || std::env::var_os(variable).map(|_| format!("{variable} of the environment"));
        let flag = self.flag.as_ref().map(of_file);
        flag.or_else(of_environment)
            .or_else(|| self.configured.as_ref().map(of_file))
    }
}

/// A secret, and where it is.
pub(crate) struct Found {
    pub(crate) text: String,
    pub(crate) place: String,
    /// Whether it is in a file.
    pub(crate) is_file: bool,
}

fn of_file(path: &Path, what: &str) -> anyhow::Result<Found> {
    let place = format!("{what} in {}", path.display());
    let text = std::fs::read_to_string(path).with_context(|| place.clone())?;
    Ok(Found {
        text,
        place,
        is_file: true,
    })
}
