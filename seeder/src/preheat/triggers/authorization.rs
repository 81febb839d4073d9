//! The login that Harbor lends for one preheat.

use std::collections::HashMap;

use axum::http::HeaderValue;
use serde_json::Value;

use super::error::TriggerError;

/// A token of Harbor has 1 to 16 KiB.
const MAX_AUTHORIZATION_LENGTH: usize = 32 * 1024;

/// The `Authorization` among the headers that Harbor wants to be sent to its registry. Others are
/// not: they could say another host, or take the answer apart.
pub(super) fn authorization_of(
    headers: Option<HashMap<String, Value>>,
) -> Result<Option<String>, TriggerError> {
    let mut headers = headers.into_iter().flatten();
    let found = headers.find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let Some((_, value)) = found else {
        return Ok(None);
    };
    let value = match value {
        Value::String(value) => value,
        _ => String::new(),
    };
    if value.is_empty() {
        return Ok(None);
    }
    if value.len() > MAX_AUTHORIZATION_LENGTH || HeaderValue::from_str(&value).is_err() {
        let error = "the Authorization header to forward is malformed";
        return Err(TriggerError::Malformed(error.to_owned()));
    }
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_authorization_is_taken_from_the_headers() {
        let headers = |json: &str| serde_json::from_str(json).unwrap();
        for (json, expected) in [
            ("null", Some(None)),
            ("{}", Some(None)),
            (r#"{"Host":"x"}"#, Some(None)),
            (r#"{"authorization":"Bearer t"}"#, Some(Some("Bearer t"))),
            (r#"{"Authorization":null}"#, Some(None)),
            (r#"{"Authorization":"a\nHost: b"}"#, None),
        ] {
            let found = authorization_of(headers(json)).ok();
            let found = found.as_ref().map(|value| value.as_deref());
            assert_eq!(found, expected, "{json}");
        }
    }
}
