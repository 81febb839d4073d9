//! Compares answers with the OpenAPI document: the part of JSON Schema that it uses.

use serde_json::Value;

/// What is wrong with `value`, with its place.
pub(crate) fn faults(document: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        let target = document.pointer(pointer).expect("a $ref leads somewhere");
        return faults(document, target, value, place);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let choices = choices
            .iter()
            .map(|one| faults(document, one, value, place));
        let choices: Vec<_> = choices.collect();
        let fitting = choices.iter().filter(|found| found.is_empty()).count();
        return match fitting {
            1 => Vec::new(),
            0 => choices.concat(),
            more => vec![format!("{place} is {value}, as {more} of one say")],
        };
    }
    let mut found = Vec::new();
    let types = match &schema["type"] {
        Value::Array(types) => types.clone(),
        one => vec![one.clone()],
    };
    if !types.iter().any(|name| is_a(value, name.as_str().unwrap())) {
        return vec![format!("{place} is {value}, not {}", schema["type"])];
    }
    let bounds = [(&schema["minimum"], -1.0), (&schema["maximum"], 1.0)];
    for (bound, sign) in bounds {
        if let (Some(bound), Some(number)) = (bound.as_f64(), value.as_f64())
            && (number - bound) * sign > 0.0
        {
            found.push(format!("{place} is {number}, beyond {bound}"));
        }
    }
    if let Some(names) = schema["enum"].as_array()
        && !names.contains(value)
    {
        found.push(format!("{place} is {value}, none of {names:?}"));
    }
    if schema["pattern"] == "^[0-9a-f]{40}$" {
        let text = value.as_str().unwrap();
        if text.len() != 40 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            found.push(format!("{place} is {text}"));
        }
    }
    if let Some(values) = value.as_array() {
        for (index, value) in values.iter().enumerate() {
            let place = format!("{place}[{index}]");
            found.extend(faults(document, &schema["items"], value, &place));
        }
    }
    if let Some(fields) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap()) {
                found.push(format!("{place} has no {name}"));
            }
        }
        if schema["additionalProperties"] != false {
            found.push(format!("{place} may have fields that are not described"));
        }
        for (name, value) in fields {
            match schema["properties"].get(name) {
                Some(schema) => {
                    found.extend(faults(document, schema, value, &format!("{place}.{name}")));
                }
                None => found.push(format!("{place}.{name} is not described")),
            }
        }
    }
    found
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other} is not known here"),
    }
}

#[test]
fn faults_are_found() {
    let document = serde_json::json!({ "s": { "type": ["integer", "null"], "minimum": 1 } });
    let schema = serde_json::json!({
        "type": "object", "required": ["a", "b"], "additionalProperties": false,
        "properties": {
            "a": { "$ref": "#/s" },
            "e": { "type": "string", "enum": ["x"] },
            "o": { "oneOf": [{ "type": "null" }, { "$ref": "#/s" }] }
        }
    });
    let faults_of = |value| faults(&document, &schema, &value, "it").len();
    assert_eq!(faults_of(serde_json::json!({ "a": 1, "b": 2 })), 1);
    assert_eq!(faults_of(serde_json::json!({ "a": null })), 1);
    assert_eq!(faults_of(serde_json::json!({ "a": 0, "e": "y" })), 3);
    assert_eq!(faults_of(serde_json::json!([])), 1);
    for (choice, found) in [("5", 1), ("0", 3), ("null", 2), ("\"5\"", 3)] {
        let json = format!(r#"{{ "a": 1, "o": {choice} }}"#);
        assert_eq!(
            faults_of(serde_json::from_str(&json).unwrap()),
            found,
            "{choice}"
        );
    }
    let open = serde_json::json!({ "type": "object", "properties": {} });
    assert_eq!(
        faults(&document, &open, &serde_json::json!({}), "it").len(),
        1
    );
}
