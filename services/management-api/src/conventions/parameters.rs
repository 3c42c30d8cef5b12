//! Query parameters that an operation does not know are refused, also by an operation that knows none: a misspelt filter
//! that is ignored answers with too much.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ravenpost_chassis::problem::Problem;
use url::form_urlencoded;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi, RefOr};

/// The query parameters of each operation.
pub(super) struct Parameters(HashMap<(String, Method), BTreeSet<String>>);

impl Parameters {
    /// As the document has them.
    pub(super) fn of(document: &OpenApi) -> Self {
        let mut known = HashMap::new();
        for (path, item) in &document.paths.paths {
            for (method, operation) in operations(item) {
                known.insert((path.clone(), method), names(operation));
            }
        }
        Self(known)
    }

    /// The first parameter in `query` that the operation does not know, and those that it does.
    fn unknown(&self, path: &str, method: &Method, query: &str) -> Option<(String, &BTreeSet<String>)> {
        let known = self.0.get(&(path.to_owned(), method.clone()))?;
        let names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name.into_owned());
        names.into_iter().find(|name| !known.contains(name)).map(|name| (name, known))
    }
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

fn names(operation: &Operation) -> BTreeSet<String> {
    let parameters = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => Some(parameter.name.clone()),
        _ => None,
    });
    parameters.collect()
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
    match parameters.unknown(path, method, query) {
        None => next.run(request).await,
        Some((name, known)) => {
            let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
            let message = if known.is_empty() {
                "unknown parameter: this operation has none".to_owned()
            } else {
                format!("unknown parameter, expected one of {}", known.join(", "))
            };
            Problem::invalid_parameter(name, message).into_response()
        }
    }
}
