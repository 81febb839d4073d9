//! Addresses of trackers and web seeds on the command line.

use url::Url;

/// The address as it was given, if it is one of these schemes.
pub(super) fn address(given: &str, flag: &str, schemes: &[&str]) -> Result<String, String> {
    let parsed = Url::parse(given);
    if parsed.is_ok_and(|url| schemes.contains(&url.scheme()) && url.has_host()) {
        Ok(given.to_owned())
    } else {
        let expected = schemes.join(", ");
        Err(format!(
            "{flag} {given:?}: expected a URL, one of {expected}"
        ))
    }
}
