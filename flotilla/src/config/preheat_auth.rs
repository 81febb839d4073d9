//! What triggers of preheats show a supernode.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use flotilla_seeder::TriggerLogins;

const VARIABLE: &str = "FLOTILLA_PREHEAT_AUTH";

/// The logins that the operator lists: in the file of the flag or of the configuration, else in
/// the environment.
pub(crate) fn given(file: Option<&Path>) -> anyhow::Result<TriggerLogins> {
    let (text, place) = match (file, std::env::var(VARIABLE)) {
        (Some(path), _) => {
            let place = format!("preheat logins in {}", path.display());
            let text = fs::read_to_string(path).with_context(|| place.clone())?;
            (text, place)
        }
        (None, Ok(text)) => (text, VARIABLE.to_owned()),
        (None, Err(_)) => return Ok(TriggerLogins::default()),
    };
    text.parse().context(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_s_bad_line_is_named_and_not_quoted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# Harbor\nbearer hunter2\n").unwrap();
        let error = format!("{:#}", given(Some(file.path())).unwrap_err());
        assert!(
            error.contains("line 2") && !error.contains("hunter2"),
            "{error}"
        );
        let missing = file.path().with_extension("missing");
        let error = format!("{:#}", given(Some(&missing)).unwrap_err());
        assert!(error.contains("missing"), "{error}");
    }
}
