//! A connection that listens on one channel (`LISTEN`), beside the pool's, and knows whether it still hears.

use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::timeout;

use super::System;
use crate::connect::enter_system;
use crate::error::POSTGRES;
use crate::{Error, Result};

/// How long an answer to whether the connection is alive may take, and how long connecting may.
const PATIENCE: Duration = Duration::from_secs(3);

/// What came over the channel, or did not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A connection was made: what was committed before went unheard.
    Connected,
    /// Nothing, and the connection is alive: whatever was committed until it was asked has been heard.
    Silence,
    /// This payload.
    Payload(String),
}

pub(super) struct Listener {
    system: System,
    channel: &'static str,
    /// After so much silence the connection is asked whether it is still there: one that has died without a word would
    /// bring no news for ever.
    quiet: Duration,
    connection: Option<PgListener>,
}

impl Listener {
    /// Connects with the first [`Listener::next`].
    pub(super) fn new(system: System, channel: &'static str, quiet: Duration) -> Self {
        Self { system, channel, quiet, connection: None }
    }

    /// Waits for what comes next. After an error it is worth trying again in a moment. Not to be cancelled halfway.
    pub(super) async fn next(&mut self) -> Result<Heard> {
        loop {
            let Some(connection) = &mut self.connection else {
                self.connection = Some(self.connect().await?);
                return Ok(Heard::Connected);
            };
            match timeout(self.quiet, connection.try_recv()).await {
                Ok(Ok(Some(notification))) => return Ok(Heard::Payload(notification.payload().to_owned())),
                Ok(Err(error)) => {
                    self.connection = None;
                    return Err(error.into());
                }
                Err(_) if is_alive(connection).await => return Ok(Heard::Silence),
                // It is lost.
                Ok(Ok(None)) | Err(_) => self.connection = None,
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
            listener.listen(self.channel).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        match timeout(PATIENCE * 2, listening).await {
            Ok(listener) => Ok(listener?),
            Err(_) => Err(Error::Unavailable { store: POSTGRES, cause: "no answer to LISTEN".into() }),
        }
    }
}

async fn is_alive(connection: &mut PgListener) -> bool {
    timeout(PATIENCE, connection.execute("select 1")).await.is_ok_and(|answered| answered.is_ok())
}
