//! The description of the API, made from its types and handlers.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, Object, Schema, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{OpenApi as Document, RefOr};
use utoipa::{Modify, OpenApi};

use super::{api, events};
use crate::stats::access;
use crate::stats::views::schema::Failure;

/// The document, as it is served.
pub(in crate::stats) static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
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
    use crate::stats::views::view::View;

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
