//! Secrets are sealed when they are stored, and opened with what they belong to.

use ravenpost_core::secret::{Keyring, Secret};
use uuid::Uuid;

use crate::decode::{Damaged, Row};
use crate::{Error, Result};

const NO_KEY: &str = "no master key is configured";

/// What both doors seal and open with. Processes that handle no secrets have none.
#[derive(Clone)]
pub(crate) struct Sealing(pub(crate) Option<Keyring>);

impl Sealing {
    /// To seal with.
    pub(crate) fn keyring(&self) -> Result<&Keyring> {
        self.0.as_ref().ok_or_else(|| Error::Refused { store: "the keyring", cause: NO_KEY.into() })
    }

    /// The secret in a column, which belongs to `owner`.
    pub(crate) fn open(
        &self,
        row: Row,
        column: &'static str,
        sealed: &[u8],
        owner: Uuid,
    ) -> Result<Secret, Damaged> {
        let keyring = self.0.as_ref().ok_or_else(|| row.damaged(column, &NO_KEY))?;
        row.value(column, keyring.open(sealed, owner))
    }
}
