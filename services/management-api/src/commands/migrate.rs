//! `migrate`: the schema to this program's version, and its partitions.

use ravenpost_store::{Store, migrations};

use crate::Settings;
use crate::maintenance::DAYS_AHEAD;

/// Migrates. Safe to run at once from several processes.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    migrations::migrate(&settings.store).await?;
    let store = Store::new(&settings.store, None)?;
    let partitions = store.system().ensure_partitions(DAYS_AHEAD).await?;
    let version = migrations::expected_version();
    tracing::info!(version, partitions, "the schema is at version {version}");
    Ok(())
}
