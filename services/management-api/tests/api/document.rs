//! The OpenAPI document by a strict validator (JSON Schema 2020-12): it admits what the service takes, and refuses what
//! the service refuses. [`accepts`] is asked with every body that any test of this package has taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use axum::http::Method;
use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

/// A field that nothing has.
const UNKNOWN: &str = "no_such_field";
/// Where objects hold names of the caller's choice.
const MAPS: [&str; 1] = ["headers"];

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(ravenpost_management_api::api::document()).unwrap());

/// A validator for the body of each operation that has one, by method and path.
static BODIES: LazyLock<BTreeMap<(String, String), Validator>> = LazyLock::new(|| {
    let mut bodies = BTreeMap::new();
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            if !schema.is_null() {
                bodies.insert((method.to_uppercase(), path.clone()), validator(schema));
            }
        }
    }
    bodies
});

/// A schema of the document, with what it refers to beside it.
fn validator(schema: &Value) -> Validator {
    let mut schema = schema.clone();
    schema["components"] = DOCUMENT["components"].clone();
    let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
    options.build(&schema).unwrap()
}

/// Asserts that a body which was taken is one by the document, and answers it with an unknown field, once for each of its
/// objects; the document refuses these.
pub(crate) fn accepts(method: &Method, path: &str, body: &Value) -> Vec<Value> {
    let path = path.split('?').next().unwrap_or_default();
    let of_operation =
        BODIES.iter().filter(|((of, template), _)| of == method.as_str() && fits(template, path));
    // A path as it is goes before one with an id in its place.
    let body_of = of_operation.min_by_key(|((_, template), _)| template.matches('{').count());
    let Some((_, validator)) = body_of else {
        // It says nothing to the operation, which reads none.
        let known = DOCUMENT["paths"].as_object().unwrap().iter().any(|(template, item)| {
            fits(template, path) && item.get(method.as_str().to_lowercase()).is_some()
        });
        assert!(known, "{method} {path} is not in the document");
        return Vec::new();
    };
    let errors: Vec<String> = validator.iter_errors(body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{method} {path} {body}: {errors:?}");
    let unknown = with_unknown_fields(body);
    for body in &unknown {
        assert!(!validator.is_valid(body), "{method} {path}: the document admits {body}");
    }
    unknown
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(path).all(|(expected, found)| expected.starts_with('{') || *expected == found)
}

fn with_unknown_fields(body: &Value) -> Vec<Value> {
    let Value::Object(fields) = body else { return Vec::new() };
    let replaced = |name: &str, value: Value| {
        let mut fields: Map<String, Value> = fields.clone();
        fields.insert(name.to_owned(), value);
        Value::Object(fields)
    };
    let mut unknown = vec![replaced(UNKNOWN, json!(1))];
    for (name, value) in fields.iter().filter(|(name, _)| !MAPS.contains(&name.as_str())) {
        unknown.extend(with_unknown_fields(value).into_iter().map(|value| replaced(name, value)));
    }
    unknown
}

/// All schemas within `value` that are named by a keyword whose content is a schema, or many.
fn schemas<'a>(value: &'a Value, name: &str, found: &mut Vec<(String, &'a Value)>) {
    found.push((name.to_owned(), value));
    for keyword in ["properties", "additionalProperties", "items", "oneOf", "allOf", "anyOf"] {
        let within = match &value[keyword] {
            Value::Object(map) if keyword == "properties" => {
                map.iter().map(|(key, value)| (key.clone(), value)).collect()
            }
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
            }
            schema @ Value::Object(_) => vec![(keyword.to_owned(), schema)],
            _ => Vec::new(),
        };
        for (key, schema) in within {
            schemas(schema, &format!("{name}/{key}"), found);
        }
    }
}

fn components() -> Vec<(String, &'static Value)> {
    let mut found = Vec::new();
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
        schemas(schema, name, &mut found);
    }
    found
}

#[test]
fn every_schema_is_one_and_its_examples_are_valid() {
    let mut examples = 0;
    for (name, schema) in components() {
        if let Err(error) = jsonschema::draft202012::meta::validate(schema) {
            panic!("{name}: {error}");
        }
        if let Some(example) = schema.get("example") {
            let errors: Vec<_> =
                validator(schema).iter_errors(example).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{name}: {errors:?}");
            examples += 1;
        }
    }
    assert!(examples > 30, "{examples}");
}

/// Each body that a request or an answer has in the document has an example, and it is one by its schema.
#[test]
fn every_operation_has_valid_examples() {
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let answers = operation["responses"].as_object().unwrap();
            let bodies = [&operation["requestBody"]].into_iter().chain(answers.values());
            for (kind, content) in bodies.filter_map(|body| body["content"].as_object()).flatten() {
                if !kind.ends_with("json") {
                    continue;
                }
                let (name, example) = (format!("{method} {path} {kind}"), &content["example"]);
                assert!(!example.is_null(), "{name} has no example");
                let validator = validator(&content["schema"]);
                let errors: Vec<_> = validator.iter_errors(example).map(|error| error.to_string()).collect();
                assert!(errors.is_empty(), "{name}: {errors:?} {example}");
            }
        }
    }
}

/// What every request can hold is closed, and by itself: nothing that a validator has to put together.
#[test]
fn no_object_of_a_request_is_open() {
    let (mut waiting, mut seen) = (Vec::new(), BTreeSet::new());
    for item in
        DOCUMENT["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values())
    {
        waiting.push(("body".to_owned(), &item["requestBody"]["content"]["application/json"]["schema"]));
    }
    while let Some((name, schema)) = waiting.pop() {
        let mut within = Vec::new();
        schemas(schema, &name, &mut within);
        for (name, schema) in within {
            assert!(schema.get("allOf").is_none(), "{name}");
            let types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
            if types.contains(&json!("object")) {
                assert!(
                    schema.get("additionalProperties").is_some_and(|rest| *rest != true),
                    "{name}: {schema}"
                );
            }
            let Some(reference) = schema["$ref"].as_str() else { continue };
            let component = DOCUMENT.pointer(&reference[1..]).unwrap();
            if seen.insert(reference) {
                waiting.push((reference.to_owned(), component));
            }
        }
    }
    for name in ["NewEndpoint", "Verification", "Authentication", "RetryOverride", "ReplayFilter"] {
        assert!(seen.contains(format!("#/components/schemas/{name}").as_str()), "{name} {seen:?}");
    }
}

/// What tests of other files may not send today, each once.
#[test]
fn the_document_admits_every_kind_of_authentication_and_verification() {
    let of = |name: &str| validator(&json!({ "$ref": format!("#/components/schemas/{name}") }));
    let hmac = json!({ "type": "hmac", "header": "x-signature", "algorithm": "sha256", "encoding": "hex",
        "timestamp": { "header": "x-time", "format": "seconds", "tolerance": "5m" } });
    let oauth = json!({ "type": "oauth2_client_credentials", "token_url": "https://login.example.com/token",
        "client_id": "me", "client_secret": "hush" });
    let bodies = [
        ("Authentication", json!({ "type": "basic", "username": "me", "password": "hush" })),
        ("Authentication", json!({ "type": "bearer", "token": "hush" })),
        ("Authentication", json!({ "type": "api_key", "header": "x-key", "value": "hush" })),
        ("Authentication", oauth),
        ("Verification", json!({ "type": "standard_webhooks" })),
        (
            "Verification",
            json!({ "type": "all", "of": [{ "type": "bearer" }, { "type": "ip_allow_list", "networks": ["192.0.2.0/24"] }] }),
        ),
        ("Verification", hmac),
        (
            "RetryPolicy",
            json!({ "schedule": ["1m"], "overrides": { "token": "none", "timeout": { "schedule": ["1m"] } } }),
        ),
    ];
    for (name, body) in bodies {
        let validator = of(name);
        let errors: Vec<_> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{body}: {errors:?}");
        for unknown in with_unknown_fields(&body) {
            assert!(!validator.is_valid(&unknown), "{unknown}");
        }
    }
    for (name, body) in [
        (
            "Authentication",
            json!({ "type": "oauth2_client_credentials", "client_id": "me", "client_secret": "hush" }),
        ),
        ("Verification", json!({ "type": "hmac", "header": "x-signature" })),
        ("RetryPolicy", json!({ "schedule": ["1m"], "overrides": { "rain": "none" } })),
        ("RetryPolicy", json!({ "schedule": ["1m"], "overrides": { "timeout": "never" } })),
    ] {
        assert!(!of(name).is_valid(&body), "{body}");
    }
}
