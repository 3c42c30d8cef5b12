//! The OpenAPI document: an outline, the operations from their handlers, and the problems that each can answer with.
//!
//! Which problems those are follows from an operation's shape (it has a body, a parameter, an id in its path), so
//! that no handler lists them and none can forget one; only 409 is a handler's own to declare. What requests hold is
//! [`closed`].

mod closed;
mod conventions;
mod examples;

use std::io::Write as _;
use std::process::ExitCode;

use ravenpost_chassis::problem::{self, Kind, Problem};
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{OpenApi as _, ToSchema};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Ravenpost",
        description = "Endpoints receive webhooks, destinations get them. Errors are RFC 9457 problems with a `type` \
            from a closed list. Lists are newest first and page by `limit` and `next`. Ids are UUIDv7, times are \
            RFC 3339 UTC. A POST may carry an `Idempotency-Key`: its repeat within 24 hours is answered as it was and does \
            nothing. PATCH is a merge patch (RFC 7396) of the fields of a resource: what is absent stays, null removes, and an object in \
            a field is a value of its own, which is replaced as a whole (`headers` go one by one). `ETag` and `If-Match` keep two \
            people from undoing each other's changes. What is left of a caller's rate limit is told by `RateLimit`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "endpoints", description = "Inbound addresses and how their producers are verified."),
        (name = "destinations", description = "Where an endpoint's events go."),
        (name = "events", description = "What was accepted, every attempt to deliver it, and replay."),
        (name = "replays", description = "What was given up, and putting back many events at once."),
        (name = "rejected requests", description = "What failed verification, kept for a while, to be looked at and \
            accepted once it verifies."),
        (name = "alerts", description = "What is going wrong, and who is told."),
        (name = "audit log", description = "Who changed what.")
    ),
    components(schemas(ProblemDocument))
)]
struct Outline;

/// An error (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "only its schema is used; chassis writes it")]
struct ProblemDocument {
    /// Which problem of the closed list; compare with it, it is no address.
    #[schema(example = "urn:ravenpost:problem:invalid-field")]
    r#type: String,
    /// The same short text for every occurrence.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong this time.
    detail: String,
    /// The fields or parameters that are wrong, if any.
    #[schema(required = false)]
    errors: Vec<FieldErrorDocument>,
}

/// One wrong field or parameter.
#[derive(ToSchema)]
#[schema(as = FieldError)]
#[expect(dead_code, reason = "only its schema is used; chassis writes it")]
struct FieldErrorDocument {
    /// Its path in the body, or the name of the parameter or header.
    #[schema(example = "verification.header")]
    field: String,
    /// What is wrong with it.
    detail: String,
    /// Where it is in the body, as a JSON pointer; absent for what is not in the body.
    #[schema(required = false, example = "#/verification/header")]
    pointer: String,
}

/// What stands in the document before any operation.
pub fn outline() -> OpenApi {
    let mut document = Outline::openapi();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key, `rvp_…`. An operation names the scope that the key needs."))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("api_key", SecurityScheme::Http(bearer));
    document
}

/// Adds to each operation what holds for all of them and the problems that it can answer with, and closes what requests
/// hold.
pub fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        conventions::tell(item);
        for operation in operations(item) {
            for kind in problems_of(operation) {
                add(operation, kind);
            }
        }
    }
    closed::close(document);
    examples::add(document);
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete]
        .into_iter()
        .filter_map(Option::as_mut)
}

fn problems_of(operation: &Operation) -> Vec<Kind> {
    let mut kinds = vec![
        // Of a parameter that is unknown.
        Kind::InvalidParameter,
        Kind::ApiKeyInvalid,
        Kind::Forbidden,
        Kind::TooManyRequests,
        Kind::Internal,
        Kind::Unavailable,
    ];
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let in_path = |parameter: &RefOr<_>| match parameter {
        RefOr::T(utoipa::openapi::path::Parameter { parameter_in, .. }) => *parameter_in == ParameterIn::Path,
        RefOr::Ref(_) => false,
    };
    if parameters.iter().any(in_path) {
        kinds.push(Kind::NotFound);
    }
    if operation.request_body.is_some() {
        kinds.extend([
            Kind::Malformed,
            Kind::PayloadTooLarge,
            Kind::UnsupportedMediaType,
            Kind::InvalidField,
        ]);
    }
    if operation.responses.responses.contains_key("409") {
        kinds.push(Kind::Conflict);
    }
    if operation.responses.responses.contains_key("412") {
        kinds.push(Kind::PreconditionFailed);
    }
    if conventions::takes_key(operation) {
        kinds.extend([Kind::IdempotencyKeyInUse, Kind::PayloadTooLarge, Kind::IdempotencyKeyReused]);
    }
    kinds.sort_by_key(|kind| Kind::ALL.iter().position(|one| one == kind));
    kinds.dedup();
    kinds
}

/// Problems of one status share a response.
fn add(operation: &mut Operation, kind: Kind) {
    let line = format!("`{}`: {}", kind.uri(), kind.description());
    let status = kind.status().as_str().to_owned();
    let response = match operation.responses.responses.remove(&status) {
        Some(RefOr::T(Response { description, .. })) if !description.is_empty() => {
            format!("{description}\n\n{line}")
        }
        _ => line,
    };
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(Some(example(kind)))
        .build();
    let response =
        ResponseBuilder::new().description(response).content(problem::CONTENT_TYPE, content).build();
    operation.responses.responses.insert(status, response.into());
}

fn example(kind: Kind) -> serde_json::Value {
    let detail = kind.title().to_lowercase();
    let problem = match kind {
        Kind::InvalidField => Problem::invalid_field("name", "1 to 200 characters"),
        Kind::InvalidParameter => Problem::invalid_parameter("limit", "a number from 1 to 250"),
        Kind::NotFound => Problem::not_found("endpoint"),
        kind => Problem::new(kind, detail),
    };
    serde_json::from_str(&problem.to_json()).expect("a problem is JSON")
}

/// The document as text, the same at every call.
pub fn to_json(document: &OpenApi) -> String {
    document.to_pretty_json().expect("a document of strings serialises") + "\n"
}

/// `openapi`: prints the document.
pub fn print() -> ExitCode {
    match std::io::stdout().write_all(to_json(&crate::api::document()).as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has gone; there is nobody to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn every_operation_is_described_guarded_and_tells_its_problems() {
        let document = serde_json::to_value(crate::api::document()).unwrap();
        let mut operations = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = format!("{method} {path}");
                operations += 1;
                assert!(operation["summary"].is_string(), "{name}");
                let scope = &operation["security"][0]["api_key"][0];
                let scope = ravenpost_core::access::Scope::parse(scope.as_str().unwrap_or_default());
                assert!(scope.is_some(), "{name} names no scope");
                let responses = operation["responses"].as_object().unwrap();
                for status in ["400", "401", "403", "429", "500", "503"] {
                    assert!(responses.contains_key(status), "{name} {status}");
                }
                for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
                    let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
                    assert_eq!(problem, "#/components/schemas/Problem", "{name} {status}");
                }
                assert_eq!(responses.contains_key("404"), path.contains('{'), "{name}");
                let refuses = operation["requestBody"].is_object() || method == "post";
                assert_eq!(responses.contains_key("422"), refuses, "{name}");
                assert_eq!(
                    responses.contains_key("412"),
                    ["patch", "delete"].contains(&method.as_str())
                        && path.contains("endpoints")
                        && !path.contains("secrets"),
                    "{name}"
                );
            }
        }
        assert_eq!(operations, 44);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = serde_json::to_value(crate::api::document()).unwrap();
        let mut references = Vec::new();
        collect(&document, &mut references);
        assert!(!references.is_empty());
        for reference in references {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    fn collect(value: &Value, references: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                references.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| collect(value, references));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
            _ => {}
        }
    }
}
