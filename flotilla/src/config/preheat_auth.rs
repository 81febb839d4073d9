//! The logins of Harbor and other triggers of preheats.

use anyhow::Context as _;
use flotilla_seeder::TriggerLogins;

use super::secrets::SecretFile;

/// Holds the lines of the file.
pub(crate) const VARIABLE: &str = "FLOTILLA_PREHEAT_AUTH";

/// The logins that the operator lists.
///
/// # Errors
/// Their file cannot be read, or a line is malformed; the error does not quote it.
pub(crate) fn given(file: &SecretFile) -> anyhow::Result<TriggerLogins> {
    match file.read(VARIABLE, "preheat logins")? {
        None => Ok(TriggerLogins::default()),
        Some(found) => found.text.parse().context(found.place),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_s_bad_line_is_named_and_not_quoted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# Harbor\nbearer hunter2\n").unwrap();
        let error = format!(
            "{:#}",
            given(&SecretFile::of_flag(Some(file.path()))).unwrap_err()
        );
        assert!(
            error.contains("line 2") && !error.contains("hunter2"),
            "{error}"
        );
        let missing = file.path().with_extension("missing");
        let error = format!(
            "{:#}",
            given(&SecretFile::of_flag(Some(&missing))).unwrap_err()
        );
        assert!(error.contains("missing"), "{error}");
    }
}
