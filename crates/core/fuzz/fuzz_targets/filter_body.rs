//! The body of the fuzz target: no expression makes its check or its evaluation panic, and none outlasts its budget.

use ravenpost_core::filter::{Compiled, Facts, Failed, Filter};

/// An expression, a zero byte, and the body that it is asked about.
pub(crate) fn run(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (expression, rest) = data.split_at(end);
    let Ok(expression) = std::str::from_utf8(expression) else { return };
    let filter = Filter { expression: Some(expression.to_owned()), ..Filter::default() };
    let Ok(compiled) = Compiled::new(&filter) else { return };
    let mut headers = http::HeaderMap::new();
    headers.insert("x-region", http::HeaderValue::from_static("eu"));
    let facts = Facts {
        event_type: "invoice.paid",
        headers: &headers,
        body: rest.get(1..).unwrap_or_default(),
        endpoint_id: "0199e5a0-0000-7000-8000-000000000001",
        endpoint_name: "Billing",
    };
    let answer = compiled.ask(&facts, &|| false);
    assert_ne!(answer, Err(Failed::Panic), "{expression}");
}
