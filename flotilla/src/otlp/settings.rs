//! Whether and where traces go.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// The base URL of a collector, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtlpEndpoint(Option<Url>);

impl OtlpEndpoint {
    /// Where traces are posted: below the base (OTLP specification, "OTLP/HTTP Request").
    pub(crate) fn url(&self) -> Option<Url> {
        let mut url = self.0.clone()?;
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/v1/traces"));
        Some(url)
    }
}

/// Text that is no such setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TraceSettingError {
    /// Without the text, which may hold a password.
    #[error("expected the URL of a collector, such as http://127.0.0.1:4318")]
    Endpoint,
    #[error("{0:?} is not a ratio from 0 to 1")]
    Ratio(String),
}

impl FromStr for OtlpEndpoint {
    type Err = TraceSettingError;

    fn from_str(text: &str) -> Result<Self, TraceSettingError> {
        if text.trim().is_empty() {
            return Ok(Self(None));
        }
        let url = Url::parse(text.trim()).map_err(|_| TraceSettingError::Endpoint)?;
        if matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none() {
            Ok(Self(Some(url)))
        } else {
            Err(TraceSettingError::Endpoint)
        }
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("", Url::as_str))
    }
}

/// A part of all traces, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TraceRatio(pub(crate) f64);

impl Default for TraceRatio {
    /// All: a pull has a few thousand spans at most, and the operator has asked for them.
    fn default() -> Self {
        Self(1.0)
    }
}

impl TraceRatio {
    fn new(ratio: f64) -> Result<Self, TraceSettingError> {
        if (0.0..=1.0).contains(&ratio) {
            Ok(Self(ratio))
        } else {
            Err(TraceSettingError::Ratio(ratio.to_string()))
        }
    }
}

impl FromStr for TraceRatio {
    type Err = TraceSettingError;

    fn from_str(text: &str) -> Result<Self, TraceSettingError> {
        let ratio: Result<f64, _> = text.trim().parse();
        ratio
            .ok()
            .and_then(|ratio| Self::new(ratio).ok())
            .ok_or_else(|| TraceSettingError::Ratio(text.to_owned()))
    }
}

impl fmt::Display for TraceRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_posted_below_the_endpoint() {
        for (endpoint, url) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://c/otlp", "https://c/otlp/v1/traces"),
        ] {
            let endpoint: OtlpEndpoint = endpoint.parse().unwrap();
            assert_eq!(endpoint.url().unwrap().as_str(), url);
        }
        assert_eq!("".parse::<OtlpEndpoint>().unwrap().url(), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["c:4318", "ftp://c", "http://", "http://c/?token=x"] {
            assert!(text.parse::<OtlpEndpoint>().is_err(), "{text}");
        }
        for text in ["", "-0.1", "1.1", "NaN", "inf", "all"] {
            assert!(text.parse::<TraceRatio>().is_err(), "{text}");
        }
        assert_eq!("0.25".parse(), Ok(TraceRatio(0.25)));
    }
}
