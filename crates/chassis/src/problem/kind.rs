//! The closed list of problems, which documents, OpenAPI and code all read.

use axum::http::StatusCode;

/// Declares the list once: variant, status, slug, title, and the description, which is also its documentation.
macro_rules! kinds {
    ($($variant:ident, $status:ident, $slug:literal, $title:literal, $description:literal;)+) => {
        /// Every kind of problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $(#[doc = $description] $variant,)+
        }

        impl Kind {
            /// Every kind, by status.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name in URNs, metrics and documents.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)+ }
            }

            /// The HTTP status that it is always answered with.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// The same short text for every occurrence (RFC 9457, section 3.1.3).
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// When it occurs and what to do about it, for documents.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)+ }
            }
        }
    };
}

kinds! {
    Malformed, BAD_REQUEST, "malformed-request", "The request can't be read",
        "The body or a header is broken, such as JSON that does not parse. Nothing was changed.";
    InvalidParameter, BAD_REQUEST, "invalid-parameter", "A parameter is invalid",
        "A path or query parameter is unknown or has a bad value, such as an id that is no UUID; `errors` names it.";
    OrganizationRequired, BAD_REQUEST, "organization-required", "Which organization is meant",
        "The caller is a member of several organizations; name one in the header `Ravenpost-Organization`.";
    SignatureMissing, UNAUTHORIZED, "signature-missing", "The request is not signed",
        "The endpoint verifies signatures and the request carries none.";
    SignatureInvalid, UNAUTHORIZED, "signature-invalid", "The signature is wrong",
        "The signature does not match the body under the endpoint's secret.";
    TimestampStale, UNAUTHORIZED, "timestamp-stale", "The timestamp is out of tolerance",
        "The signed timestamp is too old or too far ahead. Check the sender's clock; a replayed request is refused so too.";
    ApiKeyInvalid, UNAUTHORIZED, "api-key-invalid", "The API key is not valid",
        "The request carries no API key, or one that is unknown, expired or revoked.";
    AccessTokenInvalid, UNAUTHORIZED, "access-token-invalid", "The access token is not valid",
        "The request carries an access token that has expired, is of another issuer or for another audience, or is not signed as it should be. Log in again.";
    Forbidden, FORBIDDEN, "forbidden", "The caller may not do this",
        "The caller is known but lacks the scope that this operation needs, or the thing is not theirs to touch.";
    NotFound, NOT_FOUND, "not-found", "There is no such thing",
        "Nothing is here, or nothing that the caller may see.";
    UnknownToken, NOT_FOUND, "unknown-token", "There is no such endpoint",
        "No endpoint has the token in the URL.";
    MethodNotAllowed, METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here",
        "The path exists but not for this method; `Allow` lists those it has.";
    Conflict, CONFLICT, "conflict", "The request conflicts with what exists",
        "The name is taken, the state does not allow it, others are changing the same thing just now, or an Idempotency-Key was used before with another body.";
    IdempotencyKeyInUse, CONFLICT, "idempotency-key-in-use", "A request with this Idempotency-Key was begun",
        "A request with this Idempotency-Key has not ended yet, or its answer was lost. `Retry-After` says when to ask again.";
    Gone, GONE, "gone", "The endpoint was deleted",
        "The endpoint existed and was deleted: stop sending.";
    PreconditionFailed, PRECONDITION_FAILED, "precondition-failed", "Somebody has changed it meanwhile",
        "The version that If-Match names is not the present one. Nothing was changed; get it again, and decide anew.";
    PayloadTooLarge, PAYLOAD_TOO_LARGE, "payload-too-large", "The body is too large",
        "The body exceeds the limit; it was not read further and not stored.";
    UnsupportedMediaType, UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The content type is not accepted",
        "The endpoint or operation does not take this Content-Type.";
    InvalidField, UNPROCESSABLE_ENTITY, "invalid-field", "A field is invalid",
        "The body is JSON but has an unknown or missing field, a wrong type or a bad value; `errors` names it.";
    IdempotencyKeyReused, UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The Idempotency-Key stands for another request",
        "This Idempotency-Key came with another request before. Nothing was done; use a new key for each operation.";
    TooManyRequests, TOO_MANY_REQUESTS, "too-many-requests", "Too many requests",
        "A limit was reached; try again after `Retry-After` seconds.";
    HeadersTooLarge, REQUEST_HEADER_FIELDS_TOO_LARGE, "headers-too-large", "The headers are too large",
        "The request has too many header fields, or too many bytes in them.";
    Internal, INTERNAL_SERVER_ERROR, "internal", "Something went wrong",
        "A fault on our side that has been logged. Trying again may help.";
    Unavailable, SERVICE_UNAVAILABLE, "unavailable", "Temporarily unavailable",
        "Something that the service needs is away; nothing was accepted. Try again after `Retry-After` seconds.";
}

impl Kind {
    /// The `type` of the document: `urn:ravenpost:problem:<slug>`.
    pub fn uri(self) -> String {
        format!("urn:ravenpost:problem:{}", self.slug())
    }
}
