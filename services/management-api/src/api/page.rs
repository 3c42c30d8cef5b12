//! Lists: `limit` and `next` in, `data` and `next` out.

use ravenpost_chassis::problem::Problem;
use ravenpost_core::access::{decode_cursor, encode_cursor};
use ravenpost_store::tenant::{Listed, Page};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

const DEFAULT_LIMIT: u16 = 50;
const MAX_LIMIT: u16 = 250;

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// The `next` of the page before; absent for the first one.
    next: Option<String>,
}

/// One page of a list, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct List<T> {
    /// The entries.
    data: Vec<T>,
    /// Pass it as `next` to get the following page; null on the last one.
    #[schema(required = true)]
    next: Option<String>,
}

impl PageQuery {
    pub(super) fn page(&self) -> Result<Page, Problem> {
        page(self.limit, self.next.as_deref())
    }
}

/// The page that two query parameters ask for.
pub(super) fn page(most: Option<u16>, next: Option<&str>) -> Result<Page, Problem> {
    let limit = limit(most)?;
    let cursor =
        |text| decode_cursor(text).ok_or_else(|| Problem::invalid_parameter("next", "not a cursor of ours"));
    Ok(Page { after: next.map(cursor).transpose()?, limit })
}

/// A text by which a list is filtered: no stored text has a NUL, and Postgres takes none.
pub(super) fn text<'a>(parameter: &str, text: Option<&'a str>) -> Result<Option<&'a str>, Problem> {
    match text {
        Some(text) if text.contains('\0') => {
            Err(Problem::invalid_parameter(parameter, "a text without the character U+0000"))
        }
        text => Ok(text),
    }
}

/// How many entries a query parameter asks for.
pub(super) fn limit(limit: Option<u16>) -> Result<u16, Problem> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::invalid_parameter("limit", format!("a number from 1 to {MAX_LIMIT}")))
}

/// The answer of a list with a cursor of its own.
pub(super) fn some<T>(data: impl Iterator<Item = T>, next: Option<String>) -> List<T> {
    List { data: data.collect(), next }
}

/// The answer of a list.
pub(super) fn list<R, T>(listed: Listed<R>, show: impl FnMut(R) -> T) -> List<T> {
    List { next: listed.next.map(encode_cursor), data: listed.rows.into_iter().map(show).collect() }
}

/// The answer of a list that is short enough to have one page.
pub(super) fn all<T>(data: impl Iterator<Item = T>) -> List<T> {
    List { next: None, data: data.collect() }
}
