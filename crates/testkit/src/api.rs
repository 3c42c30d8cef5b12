//! A customer's client of the management API: small, and it knows nothing of our types.

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

/// The REST API as one API key sees it.
#[derive(Clone, Debug)]
pub struct Api {
    base_url: String,
    key: Option<String>,
    client: reqwest::Client,
}

/// What the API answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: bytes::Bytes,
}

impl Answer {
    /// The body as JSON; `null` when it is empty.
    pub fn json(&self) -> Result<Value> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{} with a body that is not JSON: {:?}", self.status, self.body))
    }

    /// The body as JSON when the status is the expected one.
    pub fn expect(&self, status: u16) -> Result<Value> {
        ensure!(self.status == status, "{} instead of {status}: {:?}", self.status, self.body);
        self.json()
    }
}

impl Api {
    /// `base_url` is that of the service, without `/api/v1`.
    pub fn new(base_url: impl Into<String>, key: Option<String>) -> Result<Self> {
        Ok(Self { base_url: base_url.into(), key, client: crate::http_client()? })
    }

    /// The same API seen by another key, or by nobody.
    #[must_use]
    pub fn with_key(&self, key: Option<String>) -> Self {
        Self { key, ..self.clone() }
    }

    /// Sends a request. `path` starts with `/`, for example `/api/v1/events`.
    pub async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Answer> {
        let mut request = self.client.request(method, format!("{}{path}", self.base_url));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await?;
        Ok(Answer { status: answer.status(), headers: answer.headers().clone(), body: answer.bytes().await? })
    }

    /// `GET`, expecting 200.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None).await?.expect(200).with_context(|| format!("GET {path}"))
    }

    /// `POST`, expecting any success.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.change(Method::POST, path, Some(body)).await
    }

    /// `PATCH`, expecting any success.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.change(Method::PATCH, path, Some(body)).await
    }

    /// `DELETE`, expecting any success.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.change(Method::DELETE, path, None).await
    }

    async fn change(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.send(method.clone(), path, body.map(|body| body.to_string().into_bytes())).await?;
        ensure!(answer.status.is_success(), "{method} {path}: {} {:?}", answer.status, answer.body);
        answer.json()
    }

    /// All entries of a list, page after page.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut entries = Vec::new();
        let mut page = self.get(path).await?;
        loop {
            entries.extend(page["data"].as_array().cloned().with_context(|| format!("no `data` in {page}"))?);
            let Some(next) = page["next"].as_str() else { return Ok(entries) };
            page = self.get(&format!("{path}{separator}next={next}")).await?;
        }
    }
}
