//! Query parameters that an operation does not know are refused, also by an operation that knows none: a misspelt filter
//! that is ignored answers with too much. So are times of years that RFC 3339 does not know: nobody has to count with them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Datelike as _, Utc};
use ravenpost_chassis::problem::Problem;
use url::form_urlencoded;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::schema::{KnownFormat, Schema, SchemaFormat};
use utoipa::openapi::{OpenApi, RefOr};

/// The query parameters of each operation, and whether they are times.
pub(super) struct Parameters(HashMap<(String, Method), BTreeMap<String, bool>>);

impl Parameters {
    /// As the document has them.
    pub(super) fn of(document: &OpenApi) -> Self {
        let mut known = HashMap::new();
        for (path, item) in &document.paths.paths {
            for (method, operation) in operations(item) {
                known.insert((path.clone(), method), parameters(operation));
            }
        }
        Self(known)
    }

    /// What is wrong with the first parameter in `query` that the operation does not know, or that tells no time.
    fn wrong(&self, path: &str, method: &Method, query: &str) -> Option<Problem> {
        let known = self.0.get(&(path.to_owned(), method.clone()))?;
        form_urlencoded::parse(query.as_bytes()).find_map(|(name, value)| match known.get(&*name) {
            None => Some(unknown(&name, known)),
            Some(true) if is_far_off(&value) => {
                Some(Problem::invalid_parameter(name, "a time of the years 0000 to 9999"))
            }
            Some(_) => None,
        })
    }
}

fn unknown(name: &str, known: &BTreeMap<String, bool>) -> Problem {
    let known: Vec<_> = known.keys().map(|name| format!("`{name}`")).collect();
    let message = if known.is_empty() {
        "unknown parameter: this operation has none".to_owned()
    } else {
        format!("unknown parameter, expected one of {}", known.join(", "))
    };
    Problem::invalid_parameter(name, message)
}

/// What is no time at all is refused where it is read.
fn is_far_off(value: &str) -> bool {
    value.parse::<DateTime<Utc>>().is_ok_and(|time| !(0..=9_999).contains(&time.year()))
}

fn operations(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    let operations = [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ];
    operations.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

fn parameters(operation: &Operation) -> BTreeMap<String, bool> {
    let parameters = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => {
            Some((parameter.name.clone(), is_time(parameter)))
        }
        _ => None,
    });
    parameters.collect()
}

fn is_time(parameter: &Parameter) -> bool {
    let time = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    matches!(&parameter.schema, Some(RefOr::T(Schema::Object(object))) if object.format.as_ref() == Some(&time))
}

pub(super) async fn refuse_unknown(
    State(parameters): State<Arc<Parameters>>,
    request: Request,
    next: Next,
) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    // What answers HEAD is the handler of GET.
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    match parameters.wrong(path, method, query) {
        None => next.run(request).await,
        Some(problem) => problem.into_response(),
    }
}
