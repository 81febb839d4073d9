//! What tells whether the source still has what it had (RFC 9110 section 8.8).

use http::header::{self, HeaderMap};
use serde::{Deserialize, Serialize};

/// The validators of one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Validator {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
    /// It was modified in the second of the answer: it may have been once more since.
    #[serde(default)]
    is_fresh: bool,
}

impl Validator {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name)?.to_str().ok().map(ToOwned::to_owned);
        let last_modified = text(header::LAST_MODIFIED);
        Self {
            etag: text(header::ETAG),
            is_fresh: last_modified.is_some() && last_modified == text(header::DATE),
            last_modified,
        }
    }

    /// As a supernode names it: `ETag`, else `Last-Modified`, else nothing.
    pub(crate) fn of_swarm(text: &str) -> Self {
        let given = (!text.is_empty()).then(|| text.to_owned());
        if text.ends_with('"') {
            Self {
                etag: given,
                ..Self::default()
            }
        } else {
            Self {
                last_modified: given,
                ..Self::default()
            }
        }
    }

    /// What `If-Range` may hold (RFC 9110 section 13.1.5): a strong `ETag`, else a
    /// `Last-Modified` that is strong (section 8.8.2.2), else nothing.
    pub(crate) fn strong(&self) -> Option<&str> {
        let etag = self.etag.as_deref();
        match etag.filter(|etag| !etag.starts_with("W/")) {
            Some(etag) => Some(etag),
            None if self.is_fresh => None,
            None => self.last_modified.as_deref(),
        }
    }

    /// Whether an answer with `other` speaks of the same content: what both name has to agree.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        match (&self.etag, &other.etag) {
            (Some(own), Some(other)) => own == other,
            _ => match (&self.last_modified, &other.last_modified) {
                (Some(own), Some(other)) => own == other,
                (None, None) => self.etag.is_none() && other.etag.is_none(),
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> Validator {
        let pairs = pairs.iter().map(|(name, value)| {
            (
                header::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        Validator::of(&pairs.collect())
    }

    #[test]
    fn only_what_is_strong_goes_on_with_a_part() {
        let date = "Tue, 15 Nov 1994 12:45:26 GMT";
        assert_eq!(of(&[("etag", "\"a\"")]).strong(), Some("\"a\""));
        assert_eq!(of(&[("etag", "W/\"a\"")]).strong(), None);
        assert_eq!(of(&[("last-modified", date)]).strong(), Some(date));
        assert_eq!(
            of(&[("last-modified", date), ("date", date)]).strong(),
            None
        );
        assert_eq!(
            of(&[("etag", "W/\"a\""), ("last-modified", date)]).strong(),
            Some(date)
        );
        assert_eq!(of(&[]).strong(), None);
    }

    #[test]
    fn another_etag_or_date_is_other_content() {
        let (a, b) = (of(&[("etag", "\"a\"")]), of(&[("etag", "\"b\"")]));
        assert!(a.agrees_with(&a) && !a.agrees_with(&b) && !a.agrees_with(&of(&[])));
        assert!(Validator::of_swarm("\"a\"").agrees_with(&a));
        assert!(of(&[]).agrees_with(&of(&[])));
    }
}
