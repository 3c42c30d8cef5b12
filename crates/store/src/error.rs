//! What can go wrong with a store, told apart by what a caller does about it.

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::decode::Damaged;

/// A failed operation on Postgres or the payload store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store could not be reached or did not finish; the same call may go through later.
    #[error("{store} is unavailable")]
    Unavailable {
        /// Which store.
        store: &'static str,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A uniqueness rule was broken, or something was to go that others need; names the constraint.
    #[error("`{constraint}` is violated")]
    Conflict {
        /// The constraint's name in the schema.
        constraint: String,
    },
    /// Another request with the same `Idempotency-Key` has taken this one's place; nothing was done.
    #[error("another request with the same key has taken over")]
    Superseded,
    /// A stored value is not what it should be.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// The store refused the operation itself: a fault of ours.
    #[error("{store} refused the operation")]
    Refused {
        /// Which store.
        store: &'static str,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

pub(crate) const POSTGRES: &str = "Postgres";

impl Error {
    /// Whether the same call may go through later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether Postgres refused a value, so that the same statement without it may go through: a value out of its range,
    /// a constraint, a limit. A missing partition counts as none: it says nothing of the row.
    pub fn is_about_data(&self) -> bool {
        let Self::Refused { cause, .. } = self else { return matches!(self, Self::Conflict { .. }) };
        let Some(sqlx::Error::Database(error)) = cause.downcast_ref::<sqlx::Error>() else { return false };
        let code = error.code().unwrap_or_default();
        let of_class = |class| code.starts_with(class);
        of_class("22") || of_class("54") || (of_class("23") && error.constraint().is_some())
    }

    /// Whether the statement certainly did nothing: it was never sent, or Postgres refused it and went on. Otherwise what
    /// became of it is open: a connection that breaks says nothing, nor does a session that ends with an error.
    pub fn did_nothing(&self) -> bool {
        let (Self::Unavailable { cause, .. } | Self::Refused { cause, .. }) = self else {
            return matches!(self, Self::Conflict { .. } | Self::Superseded);
        };
        match cause.downcast_ref::<sqlx::Error>() {
            Some(sqlx::Error::Database(error)) => refused_and_went_on(error.as_ref()),
            _ => cause.is::<NotSent>(),
        }
    }

    /// The violated constraint, if that is what went wrong.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Conflict { constraint } => Some(constraint),
            _ => None,
        }
    }
}

/// SQLSTATE classes that say "not now": connection, resources, operator intervention, read-only standby, rollback,
/// a lock that others hold.
const TRANSIENT_CLASSES: [&str; 6] = ["08", "53", "57", "25", "40", "55"];

/// SQLSTATE restrict_violation: what is to go is needed by others, or by a rule of the schema's.
const RESTRICTED: &str = "23001";

/// What `carry_out` of the schema raises.
const SUPERSEDED: &str = "RP001";

/// There was no connection to send a statement through.
#[derive(Debug, thiserror::Error)]
#[error("no connection")]
pub(crate) struct NotSent(#[source] pub(crate) sqlx::Error);

impl From<NotSent> for Error {
    fn from(cause: NotSent) -> Self {
        Self::Unavailable { store: POSTGRES, cause: Box::new(cause) }
    }
}

/// What a pooler says of a connection that broke (class 08), and what ends a session (57P, and all that is worse than an
/// error), may come after the commit.
fn refused_and_went_on(error: &dyn sqlx::error::DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    let severity = error.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
    severity == Some(PgSeverity::Error) && !code.starts_with("08") && !code.starts_with("57P")
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return match error {
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::TypeNotFound { .. } => {
                    Self::Refused { store: POSTGRES, cause: Box::new(error) }
                }
                _ => Self::Unavailable { store: POSTGRES, cause: Box::new(error) },
            };
        };
        let code = database.code().unwrap_or_default().into_owned();
        if database.is_unique_violation() || code == RESTRICTED {
            let constraint = database.constraint().unwrap_or_default().to_owned();
            return Self::Conflict { constraint };
        }
        if code == SUPERSEDED {
            return Self::Superseded;
        }
        if TRANSIENT_CLASSES.iter().any(|class| code.starts_with(class)) {
            return Self::Unavailable { store: POSTGRES, cause: Box::new(error) };
        }
        Self::Refused { store: POSTGRES, cause: Box::new(error) }
    }
}
