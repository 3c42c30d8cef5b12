//! Operations that lock rows which the worker's record locks too, in whatever order that does.
//!
//! Two such transactions may wait for each other. Postgres would end either after its `deadlock_timeout` (1 s); here it is
//! always ours that gives up, well before, and starts over: a customer can wait a moment, a record never has to.

use crate::Error;

/// How often an operation starts over before it is reported as unavailable.
pub(crate) const TRIES: u32 = 10;
/// SQLSTATE `lock_not_available`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Whether an operation gave up waiting for a lock, so that it may start over.
pub(crate) fn has_yielded(error: &Error) -> bool {
    let Error::Unavailable { cause, .. } = error else { return false };
    let database = cause.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    database.is_some_and(|error| error.code().as_deref() == Some(LOCK_NOT_AVAILABLE))
}
