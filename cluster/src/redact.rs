//! What may be shown of URLs, and of the errors that repeat them.

use url::Url;

/// The URL without what may be secret in it: query, user name and password.
pub fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    let _ = shown.set_password(None);
    let _ = shown.set_username("");
    shown.to_string()
}

/// The innermost cause, such as "connection refused"; the outer ones repeat the URL, which may
/// hold a signature.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
