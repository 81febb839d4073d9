//! Values without what may be secret in them.

use url::Url;

/// `text`; of a URL without its user name, password and query.
pub(crate) fn redacted(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if url.has_host() && has_secret(&url) => flotilla_cluster::redacted(&url),
        _ => text.to_owned(),
    }
}

fn has_secret(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some() || url.query().is_some()
}
