//! Parts of the API's description that several answers share.

use std::collections::BTreeMap;

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, Response};
use utoipa::{IntoResponses, ToSchema};

/// 40 hexadecimal digits, of a swarm its info hash, of a node its peer id.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-f]{40}$")]
#[expect(dead_code, reason = "describes ids that are types of another crate")]
pub(in crate::stats) struct Id(String);

/// Why there is no answer.
#[derive(ToSchema)]
#[schema(as = Error)]
#[expect(dead_code, reason = "describes what `refusal` makes")]
pub(in crate::stats) struct Failure {
    error: String,
}

/// What every path may answer instead.
pub(in crate::stats) struct Refused;

/// What the path of one thing may answer instead.
pub(in crate::stats) struct RefusedOrUnknown;

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        BTreeMap::from([
            failure("400", "A parameter is wrong."),
            failure("401", "No token, no login."),
        ])
    }
}

impl IntoResponses for RefusedOrUnknown {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = Refused::responses();
        responses.extend([failure("404", "Nothing is known of it here (any more).")]);
        responses
    }
}

pub(in crate::stats) fn failure(status: &str, description: &str) -> (String, RefOr<Response>) {
    let schema = Ref::from_schema_name(Failure::name());
    let content = RefOr::T(ContentBuilder::new().schema(Some(schema)).build());
    let mut response = Response::new(description);
    response
        .content
        .insert("application/json".to_owned(), content);
    (status.to_owned(), response.into())
}

/// A parameter after the question mark, which may be left out.
pub(in crate::stats) fn parameter(
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}
