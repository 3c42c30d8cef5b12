//! A connection for one statement, with a deadline on our side: a Postgres that has vanished without a word never
//! answers, and neither its own timeout nor TCP tells us in time.

use std::time::Duration;

use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool};
use tokio::time::error::Elapsed;

use crate::error::POSTGRES;
use crate::{Error, Result};

/// A borrowed connection. Unless its statement has ended it is thrown away rather than given back: giving back would
/// ask the dead connection whether it is well.
pub(crate) struct Lease {
    connection: Option<PoolConnection<Postgres>>,
}

impl Lease {
    pub(crate) async fn take(pool: &PgPool) -> Result<Self> {
        Ok(Self { connection: Some(pool.acquire().await?) })
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
        // Given back.
        drop(self.connection.take());
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

/// Runs a query by one of its methods (`fetch_one`, `execute` …) on a connection of the door's own, within its deadline.
macro_rules! bounded {
    ($door:ident, $query:expr, $method:ident) => {{
        let mut lease = crate::lease::Lease::take(&$door.pool).await?;
        let done = tokio::time::timeout($door.deadline, $query.$method(lease.connection())).await;
        lease.settle(done, $door.deadline)?
    }};
}

pub(crate) use bounded;
