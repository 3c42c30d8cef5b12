//! The schema's version: migrating it, and refusing to run on an older one.

use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnection;

use crate::connect::{ConnectError, options};
use crate::{Error, Result, Settings, Store};

/// How often an absent Postgres is asked again.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations");

/// The version of the schema this program was built for.
pub fn expected_version() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Why migrating failed.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// Postgres can't be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A migration failed; nothing of it remains.
    #[error("a migration failed")]
    Migrate(#[from] MigrateError),
}

/// Brings the schema to this program's version; safe to run at once from several processes.
pub async fn migrate(settings: &Settings) -> std::result::Result<(), MigrationError> {
    let mut connection = PgConnection::connect_with(&options(settings)?)
        .await
        .map_err(|error| ConnectError::Store(error.into()))?;
    MIGRATOR.run(&mut connection).await?;
    connection.close().await.map_err(|error| ConnectError::Store(error.into()))?;
    Ok(())
}

/// Why a program does not run on this schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Migrations are missing.
    #[error(
        "the schema is at version {found}, this program needs {expected}: run `ravenpost-management-api migrate` first"
    )]
    Older {
        /// What the database has.
        found: i64,
        /// What this program was built for.
        expected: i64,
    },
    /// A commit would be no promise (PROTOCOLS D4).
    #[error("Postgres runs with synchronous_commit=off: a committed event could be lost; set it to on")]
    AsynchronousCommit,
    /// It could not be asked.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Store {
    /// Refuses a schema older than this program's. A newer one is fine: migrations expand first.
    pub async fn require_schema(&self) -> std::result::Result<(), SchemaError> {
        let (found, expected) = (self.schema_version().await?, expected_version());
        if !self.commits_durably().await? {
            return Err(SchemaError::AsynchronousCommit);
        }
        if found < expected { Err(SchemaError::Older { found, expected }) } else { Ok(()) }
    }

    /// Waits for Postgres while it is away, then refuses an older schema.
    pub async fn await_schema(&self) -> std::result::Result<(), SchemaError> {
        loop {
            match self.require_schema().await {
                Err(SchemaError::Store(error)) if error.is_transient() => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "waiting for Postgres");
                    tokio::time::sleep(RETRY).await;
                }
                answer => return answer,
            }
        }
    }

    /// The version of the schema in the database; 0 when it was never migrated.
    pub async fn schema_version(&self) -> Result<i64> {
        let version: sqlx::Result<(i64,)> =
            sqlx::query_as("select coalesce(max(version), 0) from _sqlx_migrations where success")
                .fetch_one(self.pool())
                .await;
        match version {
            Ok((version,)) => Ok(version),
            Err(error)
                if error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref()
                    == Some(UNDEFINED_TABLE) =>
            {
                Ok(0)
            }
            Err(error) => Err(Error::from(error)),
        }
    }
}

/// SQLSTATE `undefined_table`.
const UNDEFINED_TABLE: &str = "42P01";
