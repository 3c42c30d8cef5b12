//! What the document says of conventions that handlers know nothing of, or say by a status alone.

use ravenpost_chassis::problem::Kind;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Required, Response};

use crate::conventions::once::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED, MAX_KEY};

/// What a PATCH may call its body besides JSON.
const MERGE_PATCH: &str = "application/merge-patch+json";

/// Adds headers and media types to the operations of a path.
pub(super) fn tell(item: &mut PathItem) {
    if let Some(operation) = item.post.as_mut() {
        add(operation, key());
        each_success(operation, |response| {
            let description = "`true`: this is the answer to an earlier request with the key.";
            response.headers.insert(IDEMPOTENCY_REPLAYED.to_owned(), text(description));
        });
    }
    if let Some(operation) = &mut item.patch {
        merge_patch(operation);
    }
    for operation in super::operations(item) {
        preconditions(operation);
        each_success(operation, |response| {
            // Of any media type, it is of any form.
            if let Some(RefOr::T(content)) = response.content.get_mut("*/*") {
                content.schema = None;
            }
        });
        each_success(operation, |response| {
            let description = "What is left of the caller's limit (draft-ietf-httpapi-ratelimit-headers).";
            response.headers.insert("ratelimit".to_owned(), text(description));
            response.headers.insert("ratelimit-policy".to_owned(), text("The caller's limit."));
        });
    }
}

/// Whether an operation takes an `Idempotency-Key`.
pub(super) fn takes_key(operation: &Operation) -> bool {
    let of_key = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(parameter) => parameter.name == IDEMPOTENCY_KEY,
        RefOr::Ref(_) => false,
    };
    operation.parameters.iter().flatten().any(of_key)
}

/// An operation that can answer 304 or 412 takes the header that asks for it.
fn preconditions(operation: &mut Operation) {
    let responses = &operation.responses.responses;
    let (not_modified, failed) = (responses.contains_key("304"), responses.contains_key("412"));
    if not_modified {
        describe(operation, "304", "It is what the tag in If-None-Match stands for.");
        add(operation, tag("if-none-match", "The `ETag` of an answer that the caller has."));
    }
    if failed {
        describe(operation, Kind::PreconditionFailed.status().as_str(), "");
        let description =
            "The `ETag` of the answer that was decided upon: changed meanwhile, it is left alone.";
        add(operation, tag("if-match", description));
    }
    if not_modified || failed {
        each_success(operation, |response| {
            if !response.content.is_empty() {
                response.headers.insert("etag".to_owned(), text("Of which version it is."));
            }
        });
    }
}

fn describe(operation: &mut Operation, status: &str, description: &str) {
    if let Some(RefOr::T(response)) = operation.responses.responses.get_mut(status) {
        description.clone_into(&mut response.description);
    }
}

fn merge_patch(operation: &mut Operation) {
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    if let Some(content) = body.content.get("application/json").cloned() {
        body.content.insert(MERGE_PATCH.to_owned(), content);
    }
}

fn each_success(operation: &mut Operation, mut change: impl FnMut(&mut Response)) {
    for (status, response) in &mut operation.responses.responses {
        if let (true, RefOr::T(response)) = (status.starts_with('2'), response) {
            change(response);
        }
    }
}

fn add(operation: &mut Operation, parameter: Parameter) {
    operation.parameters.get_or_insert_default().push(parameter.into());
}

fn key() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_KEY))
        .pattern(Some("^[!-~]+$"));
    ParameterBuilder::new()
        .name(IDEMPOTENCY_KEY)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Drawn anew for each operation, such as a UUID. A repeat within 24 hours is answered as the first request was, \
             and does nothing.",
        ))
        .schema(Some(schema))
        .build()
}

fn tag(name: &str, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

fn text(description: &str) -> RefOr<utoipa::openapi::Header> {
    let schema = ObjectBuilder::new().schema_type(Type::String).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build().into()
}
