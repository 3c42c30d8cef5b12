//! From where a request comes, and which one it is: what the audit log says of whoever changes something.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::Extensions;
use axum::middleware::Next;
use axum::response::Response;
use ravenpost_chassis::peer::peer;
use ravenpost_core::access::Actor;
use ravenpost_core::audit::{Author, Who};
use uuid::Uuid;

use crate::api::Api;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin {
    /// Its address, behind the proxies that are trusted; `None` where nobody says.
    pub(crate) address: Option<IpAddr>,
    /// Which request it is, if it holds an `Idempotency-Key`.
    pub(crate) request: Option<Uuid>,
}

impl Origin {
    /// What a request was given by the layers that it has passed.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_default()
    }

    /// Somebody who acts from here.
    pub(crate) fn author(self, actor: Actor) -> Author {
        Author { who: Who::Actor(actor), address: self.address, request: self.request }
    }
}

pub(super) async fn tell(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let trusted = &api.conventions.trusted_proxies;
    let address = connection.and_then(|connection| peer(connection, request.headers(), trusted));
    request.extensions_mut().insert(Origin { address, request: None });
    next.run(request).await
}
