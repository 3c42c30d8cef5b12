//! A database for one test: cloned in a blink from a template that was migrated once.

use std::{collections::BTreeMap, fs, path::Path, str::FromStr as _};

use anyhow::{Context, Result};
use rand::{RngExt as _, distr::Alphanumeric};
use sha2::{Digest as _, Sha256};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{stack::Addresses, workspace};

/// Advisory lock under which the template is made; any number that nobody else takes on this server.
const TEMPLATE_LOCK: i64 = 0x7261_7665_6e01;

/// A database of one test's own; dropped with it.
#[derive(Debug)]
pub struct Database {
    name: String,
    url: String,
    admin_url: String,
}

impl Database {
    /// A migrated, empty database.
    pub async fn fresh(stores: &Addresses) -> Result<Self> {
        let template = template(&stores.postgres_url).await?;
        let database = Self::named(stores)?;
        let mut admin = PgConnection::connect(&stores.postgres_url).await?;
        execute(&mut admin, &format!("CREATE DATABASE {} TEMPLATE {template}", database.name)).await?;
        Ok(database)
    }

    /// A database without any table, for those who test migrations.
    pub async fn empty(stores: &Addresses) -> Result<Self> {
        let database = Self::named(stores)?;
        let mut admin = PgConnection::connect(&stores.postgres_url).await?;
        execute(&mut admin, &format!("CREATE DATABASE {}", database.name)).await?;
        Ok(database)
    }

    fn named(stores: &Addresses) -> Result<Self> {
        let suffix: String = rand::rng().sample_iter(Alphanumeric).take(12).map(char::from).collect();
        let name = format!("test_{}", suffix.to_lowercase());
        let url = with_database(&stores.postgres_url, &name)?;
        Ok(Self { name, url, admin_url: stores.postgres_url.clone() })
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of `RAVENPOST_DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs statements as the superuser.
    pub async fn execute(&self, statements: &str) -> Result<()> {
        let mut connection = PgConnection::connect(&self.url).await?;
        execute(&mut connection, statements).await?;
        Ok(connection.close().await?)
    }

    /// How many transactions have ended in it so far. Sessions report theirs once a second at most, and at the latest when
    /// they have been idle for ten seconds.
    pub async fn transactions(&self) -> Result<i64> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let query =
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
        let count = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(count)
    }

    /// The number that a query gives, asked as the superuser.
    pub async fn number(&self, query: &'static str) -> Result<i64> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let number = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(number)
    }

    /// A hash over all rows that have `value` in `column`, for each table that has it: equal as long as nothing changes.
    pub async fn digests(&self, column: &str, value: &str) -> Result<BTreeMap<String, String>> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $1
             WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace",
        )
        .bind(column)
        .fetch_all(&mut connection)
        .await?;
        let mut digests = BTreeMap::new();
        for table in tables {
            let query = format!(
                "SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), ''))
                 FROM {table} t WHERE {column}::text = $1"
            );
            let digest: String =
                sqlx::query_scalar(AssertSqlSafe(query)).bind(value).fetch_one(&mut connection).await?;
            digests.insert(table, digest);
        }
        connection.close().await?;
        Ok(digests)
    }

    /// A small pool as the superuser, to whom no row security applies.
    pub async fn pool(&self) -> Result<PgPool> {
        Ok(PgPoolOptions::new().max_connections(4).connect(&self.url).await?)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (name, url) = (std::mem::take(&mut self.name), std::mem::take(&mut self.admin_url));
        // A thread and a runtime of its own, since a test's runtime can't be waited for from within. What fails here
        // fails in a store that is thrown away.
        let _ = std::thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut admin = PgConnection::connect(&url).await?;
                execute(&mut admin, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await
            })
        })
        .join();
    }
}

/// `url` with another database's name.
pub fn with_database(url: &str, name: &str) -> Result<String> {
    Ok(PgConnectOptions::from_str(url)?.database(name).to_url_lossy().to_string())
}

/// Makes the database when it isn't there, and brings it to the newest migration.
pub async fn create_and_migrate(admin_url: &str, name: &str) -> Result<String> {
    let mut admin = PgConnection::connect(admin_url).await?;
    if !exists(&mut admin, name).await? {
        execute(&mut admin, &format!("CREATE DATABASE {name}")).await?;
    }
    let url = with_database(admin_url, name)?;
    migrate(&url).await?;
    Ok(url)
}

/// Applies the files of `migrations/` themselves, not those that a binary has built in: the workspace may not
/// build before its queries have been checked against a migrated database.
pub async fn migrate(url: &str) -> Result<()> {
    let folder = workspace::migrations();
    let migrator = Migrator::new(folder.as_path()).await.with_context(|| folder.display().to_string())?;
    let mut connection = PgConnection::connect(url).await?;
    migrator.run(&mut connection).await.context("migrating")?;
    connection.close().await?;
    Ok(())
}

/// The name of the migrated template; made by the first who asks, whichever test executable that is.
async fn template(admin_url: &str) -> Result<String> {
    let name = format!("template_{}", &hash_of(&workspace::migrations())?[..16]);
    let mut admin = PgConnection::connect(admin_url).await?;
    if exists(&mut admin, &name).await? {
        return Ok(name);
    }
    sqlx::query("SELECT pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut admin).await?;
    if !exists(&mut admin, &name).await? {
        // Under another name until it is complete: whoever finds the template doesn't wait for the lock.
        let unfinished = format!("{name}_unfinished");
        execute(&mut admin, &format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")).await?;
        create_and_migrate(admin_url, &unfinished).await?;
        execute(&mut admin, &format!("ALTER DATABASE {unfinished} RENAME TO {name}")).await?;
    }
    // The end of the session frees the lock.
    admin.close().await?;
    Ok(name)
}

async fn exists(admin: &mut PgConnection, name: &str) -> Result<bool> {
    let found =
        sqlx::query("SELECT FROM pg_database WHERE datname = $1").bind(name).fetch_optional(admin).await?;
    Ok(found.is_some())
}

/// A statement that takes no parameters; its names are ours.
async fn execute(connection: &mut PgConnection, statement: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(connection)
        .await
        .with_context(|| statement.to_owned())?;
    Ok(())
}

/// A hash over names and contents of the `.sql` files.
fn hash_of(folder: &Path) -> Result<String> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update([0]);
        hash.update(fs::read(&file)?);
        hash.update([0]);
    }
    Ok(hex::encode(hash.finalize()))
}
