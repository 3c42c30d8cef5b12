//! Rows decode loudly: a bad value names its table, column and row.

use serde::de::DeserializeOwned;
use uuid::Uuid;

/// A stored value that is not what the schema promises.
#[derive(Debug, thiserror::Error)]
#[error("{table}.{column} of {row} is damaged: {cause}")]
pub struct Damaged {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The row's id.
    pub row: Uuid,
    /// What is wrong with it; holds no secret.
    pub cause: String,
}

/// Which row is being decoded.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) table: &'static str,
    pub(crate) id: Uuid,
}

impl Row {
    pub(crate) fn damaged(self, column: &'static str, cause: &impl ToString) -> Damaged {
        Damaged { table: self.table, column, row: self.id, cause: cause.to_string() }
    }

    /// A word out of a closed list.
    pub(crate) fn word<T>(
        self,
        column: &'static str,
        text: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Damaged> {
        parse(text).ok_or_else(|| self.damaged(column, &format_args!("`{text}` is not a known value")))
    }

    /// A JSON document.
    pub(crate) fn json<T: DeserializeOwned>(
        self,
        column: &'static str,
        value: serde_json::Value,
    ) -> Result<T, Damaged> {
        serde_json::from_value(value).map_err(|error| self.damaged(column, &error))
    }

    /// Anything with a fallible conversion.
    pub(crate) fn value<T, E: ToString>(
        self,
        column: &'static str,
        value: Result<T, E>,
    ) -> Result<T, Damaged> {
        value.map_err(|error| self.damaged(column, &error))
    }
}
