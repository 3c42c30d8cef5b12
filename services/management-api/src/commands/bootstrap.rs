//! `bootstrap`: the first organization and its key.

use std::io::Write as _;

use ravenpost_chassis::{clock, random};
use ravenpost_core::access::ApiKey;
use ravenpost_core::ids::{ApiKeyId, OrganizationId};
use ravenpost_store::Store;
use ravenpost_store::system::Bootstrapped;

use crate::Settings;
use crate::settings::Bootstrap;

/// Makes them, and prints `{"organization_id": …, "api_key": …}`: the only time that the key is told.
pub async fn run(settings: Settings, arguments: Bootstrap) -> anyhow::Result<()> {
    let store = Store::new(&settings.store, None)?;
    store.require_schema().await?;
    let now = clock::now();
    let organization_id = OrganizationId::new(now, random::bytes());
    let api_key = ApiKey::new(random::bytes());
    let new = Bootstrapped {
        organization_id,
        name: &arguments.organization,
        api_key_id: ApiKeyId::new(now, random::bytes()),
        api_key: &api_key,
    };
    store.system().bootstrap(&new).await?;
    let line = serde_json::json!({ "organization_id": organization_id, "api_key": api_key.reveal() });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
