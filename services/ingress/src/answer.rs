//! What the producer is told when its event is accepted.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ravenpost_core::ids::EventId;
use ravenpost_core::limit::CustomAnswer;
use ravenpost_core::provider::Acknowledgement;
use ravenpost_store::system::Endpoint;
use serde::Serialize;

/// The event's id, beside whatever answer the endpoint has.
const EVENT_ID: HeaderName = HeaderName::from_static("ravenpost-event-id");

/// The body of a `202`.
#[derive(Serialize)]
struct Accepted {
    id: EventId,
}

/// The endpoint's own answer, what its provider wants, or `202` with the event's id.
pub fn accepted(endpoint: &Endpoint, id: EventId) -> Response {
    let mut response = match &endpoint.answer {
        Some(answer) => custom(answer),
        None => match Acknowledgement::of(&endpoint.verification) {
            Acknowledgement::Ok => StatusCode::OK.into_response(),
            Acknowledgement::NoContent => StatusCode::NO_CONTENT.into_response(),
            Acknowledgement::AnySuccess => (StatusCode::ACCEPTED, Json(Accepted { id })).into_response(),
        },
    };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        headers.insert(EVENT_ID, value);
    }
    // What customers have us answer is for their producers: no browser shall run any of it as if it were ours.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    response
}

fn custom(answer: &CustomAnswer) -> Response {
    // Checked when it was set; one that was put into the table by hand shall not cost the producer its answer.
    let status = StatusCode::from_u16(answer.status).ok().filter(StatusCode::is_success);
    let status = status.unwrap_or(StatusCode::ACCEPTED);
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) {
        return status.into_response();
    }
    let content_type = answer.content_type.as_deref().and_then(|text| HeaderValue::try_from(text).ok());
    let mut response = (status, answer.body.clone()).into_response();
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str, content_type: Option<&str>) -> (u16, Option<String>) {
        let content_type = content_type.map(str::to_owned);
        let response = custom(&CustomAnswer { status, body: body.to_owned(), content_type });
        let told =
            response.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), told)
    }

    #[test]
    fn custom_answers() {
        let text = Some("text/plain; charset=utf-8".to_owned());
        assert_eq!(answered(200, "[accepted]", None), (200, text));
        assert_eq!(answered(201, "{}", Some("application/json")), (201, Some("application/json".to_owned())));
        assert_eq!(answered(204, "", None), (204, None));
        assert_eq!(answered(500, "", None).0, 202, "never anything but a success");
    }
}
