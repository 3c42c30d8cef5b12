//! A connection for one statement, with a deadline on our side: a Postgres that has vanished without a word never
//! answers, and neither its own timeout nor TCP tells us in time.

use std::time::Duration;

use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use tokio::time::error::Elapsed;

use crate::error::{NotSent, POSTGRES};
use crate::{Error, Result};

/// A borrowed connection. Unless its statement has ended it is thrown away rather than given back: giving back asks it
/// whether it is well, and a dead one never answers.
pub(crate) struct Lease {
    connection: Option<PoolConnection<Postgres>>,
}

impl Lease {
    pub(crate) async fn take(pool: &PgPool) -> Result<Self> {
        Ok(Self { connection: Some(pool.acquire().await.map_err(NotSent)?) })
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_deref_mut().expect("the connection is there until the statement has ended")
    }

    /// The statement has ended, or its time has.
    pub(crate) fn settle<T>(
        mut self,
        done: std::result::Result<sqlx::Result<T>, Elapsed>,
        deadline: Duration,
    ) -> Result<T> {
        let Ok(done) = done else {
            let cause = format!("no answer within {}", ravenpost_core::duration::format(deadline));
            return Err(Error::Unavailable { store: POSTGRES, cause: cause.into() });
        };
        if let Some(mut connection) = self.connection.take() {
            // The pool asks a connection whether it is well before it takes it back, for as long as that takes.
            let given_back = connection.return_to_pool();
            tokio::spawn(async move {
                if tokio::time::timeout(deadline, given_back).await.is_err() {
                    tracing::debug!("a connection to Postgres is not well and was thrown away");
                }
            });
        }
        Ok(done?)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}

/// Runs a query by one of its methods (`fetch_one`, `execute` …) on a connection of the door's pool, or of the one that is
/// named, within the door's deadline.
macro_rules! bounded {
    ($door:ident, $query:expr, $method:ident) => {
        $crate::lease::bounded!($door.pool, $door, $query, $method)
    };
    ($pool:expr, $door:ident, $query:expr, $method:ident) => {{
        let mut lease = crate::lease::Lease::take(&$pool).await?;
        let done = tokio::time::timeout($door.deadline, $query.$method(lease.connection())).await;
        lease.settle(done, $door.deadline)?
    }};
}

pub(crate) use bounded;
