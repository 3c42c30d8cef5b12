//! News of changed endpoints, for those who remember them (`LISTEN` and `NOTIFY`).

use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::{PgListener, PgNotification, PgPoolOptions};
use tokio::time::timeout;

use super::System;
use crate::connect::enter_system;
use crate::error::POSTGRES;
use crate::{Error, Result};

/// The channel of the triggers in `migrations/0004_limits.sql`.
const CHANNEL: &str = "ravenpost_configuration";
/// After so much silence the connection is asked whether it is still there: one that has died without a word would
/// bring no news for ever.
const QUIET: Duration = Duration::from_secs(5);
/// How long the answer may take, and how long connecting may.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is no longer as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The endpoint with this token was made, changed or deleted.
    Endpoint(String),
    /// Anything may have changed: news could have been missed, or concern many endpoints.
    Everything,
}

/// Changes as they are committed, over a connection of its own beside the pool's.
pub struct Changes {
    system: System,
    listener: Option<PgListener>,
}

impl System {
    /// The changes from now on. Connects with the first [`Changes::next`].
    pub fn configuration_changes(&self) -> Changes {
        Changes { system: self.clone(), listener: None }
    }
}

impl Changes {
    /// Waits for the next change. The first answer after each connection is [`Change::Everything`]: what was committed
    /// before it went unheard. After an error it is worth trying again in a moment. Not to be cancelled halfway.
    pub async fn next(&mut self) -> Result<Change> {
        loop {
            let Some(listener) = &mut self.listener else {
                self.listener = Some(self.connect().await?);
                return Ok(Change::Everything);
            };
            let heard = timeout(QUIET, listener.try_recv()).await;
            let lost = match heard {
                Ok(Ok(Some(notification))) => return Ok(read(&notification)),
                Ok(Ok(None)) => true,
                Ok(Err(error)) => {
                    self.listener = None;
                    return Err(error.into());
                }
                Err(_) => !is_alive(listener).await,
            };
            if lost {
                self.listener = None;
            }
        }
    }

    async fn connect(&self) -> Result<PgListener> {
        let options = self.system.pool.connect_options().as_ref().clone();
        // A pool for each connection: giving a dead one back takes long, and the next must not wait for it.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(PATIENCE)
            .after_connect(|connection, _| Box::pin(enter_system(connection)))
            .connect_lazy_with(options);
        let listening = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            // Told at once, rather than after the listener has found a new connection by itself.
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        match timeout(PATIENCE * 2, listening).await {
            Ok(listener) => Ok(listener?),
            Err(_) => Err(Error::Unavailable { store: POSTGRES, cause: "no answer to LISTEN".into() }),
        }
    }
}

fn read(notification: &PgNotification) -> Change {
    match notification.payload().strip_prefix("endpoint:") {
        Some(token) => Change::Endpoint(token.to_owned()),
        None => Change::Everything,
    }
}

async fn is_alive(listener: &mut PgListener) -> bool {
    timeout(PATIENCE, listener.execute("select 1")).await.is_ok_and(|answered| answered.is_ok())
}
