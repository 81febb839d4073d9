//! What a preheat may be of: an image, or a file at a URL.

use std::str::FromStr;

use flotilla_cluster::redacted;
use flotilla_registry::names::image_reference::{ImageReference, ImageReferenceError};
use flotilla_registry::names::route::Route;
use url::Url;

use super::image_url::{ImageUrlError, image_at};

/// Bytes of a URL.
const MAX_URL_LENGTH: usize = 8 * 1024;

/// Text is neither.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error(transparent)]
    Image(#[from] ImageReferenceError),
    #[error(transparent)]
    Manifest(#[from] ImageUrlError),
    #[error(
        "a file's URL is http[s]://HOST/PATH with at most {MAX_URL_LENGTH} bytes, and without a user name or a password"
    )]
    File,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// By its name, or by its manifest's URL.
    Image(ImageReference),
    File(FileUrl),
}

/// Where a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileUrl {
    pub(crate) url: Url,
    /// Without what may be secret in it.
    pub(crate) redacted: String,
}

impl Target {
    /// What people call it, without secrets.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Image(image) => &image.written,
            Self::File(file) => &file.redacted,
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.contains("://") {
            return Ok(Self::Image(text.parse()?));
        }
        match image_at(text, None) {
            Ok(image) => Ok(Self::Image(image.parse()?)),
            Err(error) if names_a_manifest(text) => Err(error.into()),
            Err(_) => Ok(Self::File(file_at(text)?)),
        }
    }
}

/// Whether an image is meant, although something is wrong with its URL.
fn names_a_manifest(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| Route::of(url.path()) == Route::Manifest)
}

fn file_at(text: &str) -> Result<FileUrl, TargetError> {
    let url = Url::parse(text).map_err(|_| TargetError::File)?;
    let has_login = !url.username().is_empty() || url.password().is_some();
    let is_fetched = matches!(url.scheme(), "http" | "https") && url.has_host();
    if has_login || !is_fetched || text.len() > MAX_URL_LENGTH {
        return Err(TargetError::File);
    }
    let redacted = redacted(&url);
    Ok(FileUrl { url, redacted })
}

/// What was asked for, without what may be secret in it.
pub(crate) fn redacted_target(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if text.contains("://") => redacted(&url),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_stays_one_and_every_other_url_is_a_file() {
        for (text, name, is_file) in [
            ("reg.test/a:1", "reg.test/a:1", false),
            ("https://reg.test/v2/a/manifests/1", "reg.test/a:1", false),
            ("https://f.test/a.bin", "https://f.test/a.bin", true),
            (
                "http://f.test:81/a?sig=secret#x",
                "http://f.test:81/a",
                true,
            ),
            (
                "https://f.test/manifests/1.yaml",
                "https://f.test/manifests/1.yaml",
                true,
            ),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.name(), name);
            assert_eq!(matches!(target, Target::File(_)), is_file, "{text}");
        }
    }

    #[test]
    fn what_is_not_fetched_is_refused_and_no_password_is_quoted() {
        for text in [
            "ftp://f.test/a",
            "file:///etc/passwd",
            "https://me:hunter2@f.test/a",
            "https://hunter2@f.test/a",
            "https:///a b\u{0}",
            "https://reg.test/v2/a/manifests/1?ns=x",
            "https://reg.test/v2/A/manifests/1",
            "https://reg.test/below/v2/a/manifests/1",
            &format!("https://f.test/{}", "a".repeat(MAX_URL_LENGTH)),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_was_asked_for_is_shown_without_signatures() {
        assert_eq!(
            redacted_target("https://u:p@f.test/a?sig=secret"),
            "https://f.test/a"
        );
        assert_eq!(redacted_target("reg.test:5000/a:1"), "reg.test:5000/a:1");
    }
}
