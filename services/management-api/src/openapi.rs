//! The OpenAPI document: an outline, the operations from their handlers, and the problems that each can answer with.
//!
//! Which problems those are follows from an operation's shape (it has a body, a parameter, an id in its path), so
//! that no handler lists them and none can forget one; only 409 and 429, and 404 where nothing in the path can be missing,
//! are a handler's own to declare. What it demands of its callers is said by the table of operations. What requests hold is
//! [`closed`].

mod closed;
mod conventions;
mod examples;
mod partial;

use std::io::Write as _;
use std::process::ExitCode;

use ravenpost_chassis::problem::{self, Kind, Problem};
use ravenpost_core::access::{Demand, Scope, demand_of};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
};
use utoipa::{OpenApi as _, ToSchema};

use crate::auth::ORGANIZATION_HEADER;

/// The ways to prove who one is.
const API_KEY: &str = "api_key";
const ACCESS_TOKEN: &str = "access_token";
/// The header that names an organization, among the components.
const ORGANIZATION: &str = "Organization";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Ravenpost",
        description = "Endpoints receive webhooks, destinations get them. Errors are RFC 9457 problems with a `type` \
            from a closed list. Lists are newest first and page by `limit` and `next`. Ids are UUIDv7, times are \
            RFC 3339 UTC. A POST may carry an `Idempotency-Key`: its repeat within 24 hours is answered as it was and does \
            nothing. PATCH is a merge patch (RFC 7396): what is absent stays, null removes, and objects are merged in their turn; one of another \
            `type` replaces what was there. `ETag` and `If-Match` keep two \
            people from undoing each other's changes. What is left of a caller's rate limit is told by `RateLimit`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "identity", description = "Who you are, organizations, their members and API keys."),
        (name = "endpoints", description = "Inbound addresses and how their producers are verified."),
        (name = "destinations", description = "Where an endpoint's events go."),
        (name = "events", description = "What was accepted, every attempt to deliver it, and replay."),
        (name = "analytics", description = "What was accepted and attempted over time, and how endpoints fare."),
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
    let bearer = |text: &str| {
        let builder = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text));
        SecurityScheme::Http(builder.build())
    };
    let key = "An API key, `rvp_…`. An operation names the scope that the key needs.";
    let token = "An access token (JWT) of a person, from the issuer that the operator has configured. An operation names \
        the scope that the person's role has to carry; `docs/api/access.md` tells which roles do.";
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(API_KEY, bearer(key));
    components.add_security_scheme(ACCESS_TOKEN, bearer(token));
    components.parameters.insert(ORGANIZATION.to_owned(), organization_parameter().into());
    document
}

fn organization_parameter() -> Parameter {
    let text = "Which of your organizations the request is about, by its id. Not needed by who belongs to one alone, as \
        every API key does.";
    let uuid = SchemaFormat::KnownFormat(KnownFormat::Uuid);
    let id = ObjectBuilder::new().schema_type(Type::String).format(Some(uuid));
    ParameterBuilder::new()
        .name(ORGANIZATION_HEADER)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(text))
        .schema(Some(id))
        .build()
}

/// Says of each operation what it demands and what holds for all of them, adds the problems that it can answer with, and closes what requests hold, of which a PATCH
/// may bring parts.
pub fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        conventions::tell(item);
        for operation in operations(item) {
            demand(operation);
            for kind in problems_of(operation) {
                add(operation, kind);
            }
        }
    }
    closed::close(document);
    partial::admit(document);
    examples::add(document);
}

/// What the table of operations says. An operation that has no row there gets no security here, and is refused.
fn demand(operation: &mut Operation) {
    let Some(demand) = operation.operation_id.as_deref().and_then(demand_of) else { return };
    let by = |scheme: &str, scope: Option<Scope>| SecurityRequirement::new(scheme, scope.map(Scope::as_str));
    operation.security = Some(match demand {
        Demand::Scope(scope) => vec![by(API_KEY, Some(scope)), by(ACCESS_TOKEN, Some(scope))],
        Demand::Known => vec![by(API_KEY, None), by(ACCESS_TOKEN, None)],
        Demand::Person => vec![by(ACCESS_TOKEN, None)],
    });
    let parameters = operation.parameters.get_or_insert_default();
    let by_path = |parameter: &RefOr<Parameter>| matches!(parameter, RefOr::T(found) if found.name == "organization_id");
    if matches!(demand, Demand::Scope(_)) && !parameters.iter().any(by_path) {
        let reference = Ref::new(format!("#/components/parameters/{ORGANIZATION}"));
        parameters.push(RefOr::Ref(reference));
    }
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
        Kind::AccessTokenInvalid,
        Kind::Forbidden,
        Kind::TooManyRequests,
        Kind::Internal,
        Kind::Unavailable,
    ];
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let in_path = |parameter: &RefOr<_>| match parameter {
        RefOr::T(Parameter { parameter_in, .. }) => *parameter_in == ParameterIn::Path,
        RefOr::Ref(_) => false,
    };
    let declared = |status: &str| operation.responses.responses.contains_key(status);
    if parameters.iter().any(in_path) || declared("404") {
        kinds.push(Kind::NotFound);
    }
    // The header is the only parameter that is referred to.
    if parameters.iter().any(|parameter| matches!(parameter, RefOr::Ref(_))) {
        kinds.push(Kind::OrganizationRequired);
    }
    if operation.request_body.is_some() {
        kinds.extend([
            Kind::Malformed,
            Kind::PayloadTooLarge,
            Kind::UnsupportedMediaType,
            Kind::InvalidField,
        ]);
    }
    if declared("409") {
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

/// The operations of a document by their ids.
#[cfg(test)]
fn by_id(document: &OpenApi) -> std::collections::BTreeMap<String, Operation> {
    let mut document = document.clone();
    let operations = document.paths.paths.values_mut().flat_map(operations);
    operations
        .map(|operation| (operation.operation_id.clone().unwrap_or_default(), operation.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ravenpost_core::access::{OPERATIONS, Scope, demand_of};
    use serde_json::Value;

    use super::{Demand, by_id};

    #[test]
    fn every_operation_is_described_guarded_and_tells_its_problems() {
        let document = serde_json::to_value(crate::api::document()).unwrap();
        let mut operations = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = format!("{method} {path}");
                operations += 1;
                assert!(operation["summary"].is_string(), "{name}");
                assert!(operation["security"].as_array().is_some_and(|ways| !ways.is_empty()), "{name}");
                let responses = operation["responses"].as_object().unwrap();
                for status in ["400", "401", "403", "429", "500", "503"] {
                    assert!(responses.contains_key(status), "{name} {status}");
                }
                for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
                    let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
                    assert_eq!(problem, "#/components/schemas/Problem", "{name} {status}");
                }
                let may_miss = path.contains('{') || operation["operationId"] == "accept_invitation";
                assert_eq!(responses.contains_key("404"), may_miss, "{name}");
                let refuses = operation["requestBody"].is_object() || method == "post";
                assert_eq!(responses.contains_key("422"), refuses, "{name}");
                let is_edited =
                    ["endpoints", "channels", "alert-rules"].iter().any(|kind| path.contains(kind))
                        && !path.contains("secrets");
                let edits = ["patch", "delete"].contains(&method.as_str());
                assert_eq!(responses.contains_key("412"), edits && is_edited, "{name}");
            }
        }
        assert_eq!(operations, OPERATIONS.len());
    }

    /// A route without a row would be refused to everybody, and a row without a route promises what is not there.
    #[test]
    fn the_table_of_operations_and_the_routes_are_the_same() {
        let document = crate::api::document();
        let routes: BTreeSet<String> = by_id(&document).into_keys().collect();
        let rows: BTreeSet<String> = OPERATIONS.iter().map(|operation| operation.id.to_owned()).collect();
        assert_eq!(routes, rows);
    }

    /// Where a handler says a scope as well, it says that of the table.
    #[test]
    fn what_handlers_say_is_what_the_table_demands() {
        let declared = by_id(&crate::api::declared());
        assert!(!declared.is_empty());
        for (id, operation) in declared {
            let said = serde_json::to_value(&operation.security).unwrap();
            let Some(scope) = said[0]["api_key"][0].as_str() else { continue };
            assert_eq!(demand_of(&id), Scope::parse(scope).map(Demand::Scope), "{id}");
        }
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
