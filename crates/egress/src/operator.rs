//! The operator's door: to addresses that the operator has configured, such as the issuer whose keys verify logins, or our own ingress. They
//! are in the operator's own network as often as not, so they are not asked whether they are public. A type of its own,
//! so that nothing that a customer names can come this way.

use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ravenpost_core::delivery::Answer;
use url::Url;

use crate::client::{BuildError, Client, Request};
use crate::settings::Settings;

/// The largest answer.
const MAX_RESPONSE_BYTES: usize = 1_024 * 1_024;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are kept for the next request.
const IDLE_CONNECTIONS: usize = 2;

/// A client for what the operator has configured: directly, by the names of the system's own DNS (complete ones: no search
/// domain is appended), without redirects, and bounded in time and size. A cloud's metadata service stays out of reach.
#[derive(Debug, Clone)]
pub struct OperatorClient {
    client: Client,
}

/// Why there is no answer to use. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// There was none.
    #[error("{0}")]
    NoAnswer(String),
    /// It was not 200.
    #[error("it answered {0}")]
    Status(u16),
    /// It is longer than a megabyte.
    #[error("its answer is too large")]
    TooLarge,
}

impl OperatorClient {
    /// Trusts the system's root certificates.
    pub fn new() -> Result<Self, BuildError> {
        let everywhere: [IpNet; 2] = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        let settings = Settings {
            egress_allowed_networks: everywhere.to_vec(),
            egress_connect_timeout: CONNECT_TIMEOUT,
            egress_max_response_bytes: MAX_RESPONSE_BYTES + 1,
            egress_idle_connections: IDLE_CONNECTIONS,
            ..Settings::default()
        };
        Ok(Self { client: Client::new(&settings)? })
    }

    /// Sends a request and answers what came of it.
    pub async fn send(&self, request: Request) -> Answer {
        self.client.send(request).await
    }

    /// What a URL serves with 200.
    pub async fn get(&self, url: &Url, timeout: Duration) -> Result<Vec<u8>, OperatorError> {
        let answer = self.client.get(url.clone(), timeout).await;
        let response = answer.result.map_err(|failure| OperatorError::NoAnswer(failure.message))?;
        match response.status {
            200 if response.body.len() <= MAX_RESPONSE_BYTES => Ok(response.body),
            200 => Err(OperatorError::TooLarge),
            other => Err(OperatorError::Status(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::response::Redirect;
    use axum::routing::get;

    use super::*;

    async fn ask(path: &str) -> Result<Vec<u8>, OperatorError> {
        let large = "x".repeat(MAX_RESPONSE_BYTES + 1);
        let routes = Router::new()
            .route("/keys", get(async || "keys"))
            .route("/large", get(async move || large))
            .route("/elsewhere", get(async || Redirect::temporary("/keys")));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        OperatorClient::new().unwrap().get(&url, Duration::from_secs(10)).await
    }

    #[tokio::test]
    async fn an_address_of_ones_own_network_is_reached_and_its_answer_bounded() {
        assert_eq!(ask("/keys").await.unwrap(), b"keys");
        assert_eq!(ask("/elsewhere").await, Err(OperatorError::Status(307)));
        assert_eq!(ask("/nothing").await, Err(OperatorError::Status(404)));
        assert_eq!(ask("/large").await, Err(OperatorError::TooLarge));
    }

    #[tokio::test]
    async fn the_metadata_of_a_cloud_is_not() {
        let url = "http://169.254.169.254/latest".parse().unwrap();
        let refused = OperatorClient::new().unwrap().get(&url, Duration::from_secs(10)).await;
        assert!(matches!(refused, Err(OperatorError::NoAnswer(_))), "{refused:?}");
    }
}
