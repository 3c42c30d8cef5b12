//! An example for each body that a request or an answer can have, put together from its schema: from the examples of its
//! fields where they have one, otherwise from what their types say. A test holds each against its schema.

use serde_json::{Map, Value, json};
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, OpenApi, RefOr};

/// Where references to schemas lead.
const SCHEMAS: &str = "#/components/schemas/";
/// A schema that refers to itself ends there.
const DEEPEST: usize = 24;

/// What schemas are looked up in, and for whom.
struct Schemas {
    components: Value,
    /// Of a request only what it needs is shown, and what has an example of its own.
    sparse: bool,
}

/// Adds them to every body that has none.
pub(super) fn add(document: &mut OpenApi) {
    let components = serde_json::to_value(&document.components).expect("a document of strings serialises");
    let mut schemas = Schemas { components: components["schemas"].clone(), sparse: false };
    for operation in document.paths.paths.values_mut().flat_map(super::operations) {
        schemas.sparse = true;
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            body.content.values_mut().for_each(|content| schemas.give(content));
        }
        schemas.sparse = false;
        answers(operation).for_each(|content| schemas.give(content));
    }
}

fn answers(operation: &mut Operation) -> impl Iterator<Item = &mut RefOr<Content>> {
    let responses = operation.responses.responses.values_mut().filter_map(|response| match response {
        RefOr::T(response) => Some(response),
        RefOr::Ref(_) => None,
    });
    responses.flat_map(|response| response.content.values_mut())
}

impl Schemas {
    fn give(&self, content: &mut RefOr<Content>) {
        let RefOr::T(content) = content else { return };
        let Some(schema) = content.schema.as_ref().filter(|_| content.example.is_none()) else { return };
        let schema = serde_json::to_value(schema).expect("a schema serialises");
        content.example = self.sample(&schema, 0);
    }

    /// `None` for what nothing can be said of.
    fn sample(&self, schema: &Value, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix(SCHEMAS)) {
            return self.sample(&self.components[name], depth + 1);
        }
        let said = [&schema["example"], &schema["examples"][0], &schema["default"], &schema["enum"][0]];
        if let Some(said) = said.into_iter().find(|said| !said.is_null()) {
            return Some(said.clone());
        }
        for variants in ["oneOf", "anyOf"] {
            let mut variants = schema[variants].as_array().into_iter().flatten();
            if let Some(variant) = variants.find(|variant| variant["type"] != "null") {
                return self.sample(variant, depth + 1);
            }
        }
        if let Some(parts) = schema["allOf"].as_array() {
            return self.all_of(parts, depth);
        }
        self.of_type(schema, depth)
    }

    fn all_of(&self, parts: &[Value], depth: usize) -> Option<Value> {
        let mut all = Map::new();
        for part in parts {
            let Value::Object(fields) = self.sample(part, depth + 1)? else { return None };
            all.extend(fields);
        }
        Some(Value::Object(all))
    }

    fn of_type(&self, schema: &Value, depth: usize) -> Option<Value> {
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null")?.as_str()?,
            kind => kind.as_str()?,
        };
        Some(match kind {
            "object" => self.object(schema, depth),
            "array" => Value::Array(self.sample(&schema["items"], depth + 1).into_iter().collect()),
            "string" => text(schema).into(),
            "integer" | "number" => {
                Some(&schema["minimum"]).filter(|least| !least.is_null()).cloned().unwrap_or_else(|| json!(1))
            }
            "boolean" => false.into(),
            _ => return None,
        })
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let required =
            |name: &String| schema["required"].as_array().is_some_and(|it| it.contains(&json!(name)));
        let properties = schema["properties"].as_object().into_iter().flatten();
        let shown = properties
            .filter(|(name, property)| !self.sparse || required(name) || !property["example"].is_null());
        let fields =
            shown.filter_map(|(name, property)| Some((name.clone(), self.sample(property, depth + 1)?)));
        Value::Object(fields.collect())
    }
}

fn text(schema: &Value) -> &'static str {
    match schema["format"].as_str() {
        Some("uuid") => "019a8c3e-7d2a-7000-8000-000000000001",
        Some("date-time") => "2026-01-05T08:30:00Z",
        Some("uri") => "https://api.example.com/webhooks",
        Some("email") => "oncall@example.com",
        Some("password") => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        _ => "text",
    }
}
