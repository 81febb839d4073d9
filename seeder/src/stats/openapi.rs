//! The description of the API, made from its types and handlers.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayItems, Object, ObjectBuilder, Schema, Type,
};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, Required, Response};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, PartialSchema, ToSchema};

use super::listing::{Choice, Order};
use super::{access, api, events};

/// The document, as it is served.
pub(super) static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let document = Api::openapi().to_json();
    document.unwrap_or_else(|error| format!("{{\"error\":\"no description: {error}\"}}"))
});

#[derive(OpenApi)]
#[openapi(
    info(
        title = "flotilla supernode: statistics",
        version = "1",
        description = "Requests from the supernode's own machine need no token; all others show \
                       the statistics token or the join token. Bytes are bytes, times are seconds."
    ),
    paths(
        api::totals,
        api::swarms,
        api::swarm,
        api::nodes,
        api::node,
        api::jobs,
        api::job,
        api::cluster,
        events::stream,
        api::exposition
    ),
    components(schemas(Failure)),
    modifiers(&Access, &Closed)
)]
struct Api;

/// 40 hexadecimal digits, of a swarm its info hash, of a node its peer id.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-f]{40}$")]
#[expect(dead_code, reason = "describes ids that are types of another crate")]
pub(super) struct Id(String);

/// Why there is no answer.
#[derive(ToSchema)]
#[schema(as = Error)]
#[expect(dead_code, reason = "describes what `refusal` makes")]
struct Failure {
    error: String,
}

/// What every path may answer instead.
pub(super) struct Refused;

/// What the path of one thing may answer instead.
pub(super) struct RefusedOrUnknown;

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

pub(super) fn failure(status: &str, description: &str) -> (String, RefOr<Response>) {
    let schema = Ref::from_schema_name(Failure::name());
    let content = RefOr::T(ContentBuilder::new().schema(Some(schema)).build());
    let mut response = Response::new(description);
    response
        .content
        .insert("application/json".to_owned(), content);
    (status.to_owned(), response.into())
}

/// A parameter after the question mark, which may be left out.
pub(super) fn parameter(
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

impl<K: PartialSchema> IntoParams for Choice<K> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let number = |least, most| {
            let number = ObjectBuilder::new().schema_type(Type::Integer);
            number.minimum(Some(least)).maximum(most).build()
        };
        vec![
            parameter(
                "q",
                "Only rows that hold this text, in either case.",
                Object::with_type(Type::String),
            ),
            parameter(
                "sort",
                "What to sort by; the first by default.",
                K::schema(),
            ),
            parameter("order", "Ascending by default.", Order::schema()),
            parameter(
                "page",
                "From 1 on; a page after the last one is the last one.",
                number(0, None),
            ),
            parameter("per_page", "50 by default.", number(1, Some(200))),
        ]
    }
}

/// How those that look show who they are.
struct Access;

impl Modify for Access {
    fn modify(&self, document: &mut Document) {
        let none: [&str; 0] = [];
        document.security = Some(vec![
            SecurityRequirement::new("token", none),
            SecurityRequirement::new("login", none),
            SecurityRequirement::default(),
        ]);
        let components = document.components.get_or_insert_default();
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("token", bearer);
        let cookie = ApiKey::Cookie(ApiKeyValue::new(access::COOKIE));
        components.add_security_scheme("login", SecurityScheme::ApiKey(cookie));
    }
}

/// Says that objects have the fields that are described, and no others. An object that holds the
/// fields of another one is written out: each half would refuse those of the other.
struct Closed;

impl Modify for Closed {
    fn modify(&self, document: &mut Document) {
        for path in document.paths.paths.values_mut() {
            if let Some(get) = path.get.as_mut() {
                // They would be the names of modules.
                get.tags = None;
            }
        }
        let Some(components) = document.components.as_mut() else {
            return;
        };
        let described = components.schemas.clone();
        for schema in components.schemas.values_mut() {
            close(schema, &described);
        }
    }
}

type Schemas = BTreeMap<String, RefOr<Schema>>;

fn close(schema: &mut RefOr<Schema>, described: &Schemas) {
    let RefOr::T(schema) = schema else {
        return;
    };
    if let Schema::AllOf(parts) = schema {
        let mut whole = Object::with_type(Type::Object);
        whole.description = parts.description.take();
        for part in &parts.items {
            add_fields(&mut whole, part, described);
        }
        *schema = Schema::Object(whole);
    }
    match schema {
        Schema::Object(object) if !object.properties.is_empty() => {
            for property in object.properties.values_mut() {
                close(property, described);
            }
            let others = AdditionalProperties::FreeForm(false);
            object.additional_properties = Some(Box::new(others));
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                close(items, described);
            }
        }
        Schema::OneOf(choice) => {
            for one in &mut choice.items {
                close(one, described);
            }
        }
        _ => {}
    }
}

fn add_fields(whole: &mut Object, part: &RefOr<Schema>, described: &Schemas) {
    match part {
        RefOr::Ref(to) => {
            let name = to.ref_location.rsplit('/').next().unwrap_or_default();
            if let Some(part @ RefOr::T(_)) = described.get(name) {
                add_fields(whole, part, described);
            }
        }
        RefOr::T(Schema::AllOf(parts)) => {
            for part in &parts.items {
                add_fields(whole, part, described);
            }
        }
        RefOr::T(Schema::Object(object)) => {
            whole.properties.extend(object.properties.clone());
            whole.required.extend(object.required.iter().cloned());
        }
        RefOr::T(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::stats::view::View;

    fn each(value: &Value, look: &mut impl FnMut(&Value)) {
        look(value);
        match value {
            Value::Array(items) => items.iter().for_each(|item| each(item, look)),
            Value::Object(fields) => fields.values().for_each(|field| each(field, look)),
            _ => {}
        }
    }

    #[test]
    fn objects_are_closed_and_references_lead_somewhere() {
        let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
        let (mut objects, mut references) = (0, 0);
        each(&document["components"]["schemas"], &mut |schema| {
            assert!(schema.get("allOf").is_none(), "{schema}");
            if schema["type"] == "object" {
                assert_eq!(schema["additionalProperties"], false, "{schema}");
                let fields = schema["properties"].as_object().unwrap().keys();
                let required = schema["required"].as_array().unwrap();
                // Null is said, not left out.
                assert_eq!(fields.len(), required.len(), "{schema}");
                objects += 1;
            }
        });
        each(&document, &mut |value| {
            if let Some(to) = value["$ref"].as_str() {
                let to = to.strip_prefix('#').unwrap();
                assert!(document.pointer(to).is_some(), "{to}");
                references += 1;
            }
        });
        assert!(objects > 15 && references > 40, "{objects} {references}");
    }

    #[test]
    fn every_view_has_a_path_and_every_list_says_what_it_is_sorted_by() {
        let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
        let mut lists = 0;
        for (path, described) in document["paths"].as_object().unwrap() {
            let get = &described["get"];
            for status in ["200", "400", "401"] {
                assert!(get["responses"].get(status).is_some(), "{path} {status}");
            }
            let parameters = get["parameters"].as_array().into_iter().flatten();
            for parameter in parameters.filter(|parameter| parameter["name"] == "sort") {
                let keys = parameter["schema"]["enum"].as_array().unwrap();
                assert!(keys.len() > 5, "{path}");
                lists += 1;
            }
        }
        assert_eq!(lists, 5);
        for view in View::NAMES {
            let one = format!("/api/v1/{view}s/{{id}}");
            let path = format!("/api/v1/{view}");
            let paths = document["paths"].as_object().unwrap();
            assert!(
                paths.contains_key(&path) || paths.contains_key(&one),
                "{view}"
            );
        }
    }
}
