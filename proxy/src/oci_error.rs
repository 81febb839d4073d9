//! Errors as registries write them: OCI distribution-spec, section "Error Codes".

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};

use crate::body::{self, ProxyBody};
use crate::marks::{Mark, set_mark};
use crate::stats::ProxyStats;

/// An answer of the proxy's own. Answering with it sets its mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) mark: Mark,
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(
        mark: Mark,
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            mark,
            status,
            code,
            message: message.into(),
        }
    }

    /// The response, which is on record from now on.
    pub(crate) fn answer(&self, stats: &ProxyStats) -> Response<ProxyBody> {
        let (status, reason) = (self.status.as_u16(), self.message.as_str());
        set_mark!(stats, self.mark, status, reason);
        let json = self.to_json();
        let length = HeaderValue::from(json.len());
        let mut response = Response::new(body::full(json));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, length);
        response
    }

    /// The body that container engines print.
    fn to_json(&self) -> String {
        #[derive(serde::Serialize)]
        struct Errors<'a> {
            errors: [Error<'a>; 1],
        }
        #[derive(serde::Serialize)]
        struct Error<'a> {
            code: &'a str,
            message: &'a str,
        }
        let errors = Errors {
            errors: [Error {
                code: self.code,
                message: &self.message,
            }],
        };
        let mut json =
            serde_json::to_string(&errors).unwrap_or_else(|_| String::from("{\"errors\":[]}"));
        json.push('\n');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_escaped() {
        let refusal = Refusal::new(
            Mark::RegistryUnnamed,
            StatusCode::NOT_FOUND,
            "UNSUPPORTED",
            "no \"such\" host",
        );
        assert_eq!(
            refusal.to_json(),
            "{\"errors\":[{\"code\":\"UNSUPPORTED\",\"message\":\"no \\\"such\\\" host\"}]}\n"
        );
    }
}
