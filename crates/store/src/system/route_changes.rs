//! What has changed of routes, for those who remember them.

use std::collections::HashSet;

use ravenpost_core::ids::EndpointId;

use super::System;
use crate::Result;
use crate::lease::bounded;

/// How far changes were read: the lowest transaction that was still running then, and what was seen above it.
#[derive(Debug, Clone, Default)]
pub struct RouteMark {
    running: Option<String>,
    seen: HashSet<(String, Option<EndpointId>)>,
}

/// What changed since a mark. A change is told once to who goes on from one mark to the next.
#[derive(Debug, Default)]
pub struct RouteChanges {
    /// These endpoints' routes.
    pub endpoints: Vec<EndpointId>,
    /// Any route may have changed.
    pub everything: bool,
}

impl System {
    /// Moves `mark` on, and tells what was committed between it and the beginning of this call; all, for a mark that has
    /// not been moved yet. Changes are remembered for an hour: an older mark is no use.
    pub async fn route_changes(&self, mark: &mut RouteMark) -> Result<RouteChanges> {
        // In one statement, so that the mark and what is found are of one snapshot.
        let query = sqlx::query!(
            "select pg_snapshot_xmin(pg_current_snapshot())::text as \"running!\",
                 c.xid::text as xid, c.endpoint_id
             from (values (1)) as one left join route_changes c
                 on c.xid >= coalesce($1::text::xid8, pg_snapshot_xmin(pg_current_snapshot()))",
            mark.running
        );
        let rows = bounded!(self, query, fetch_all);
        let Some(first) = rows.first() else {
            return Ok(RouteChanges { everything: true, ..Default::default() });
        };
        let running = Some(first.running.clone());
        let found =
            rows.into_iter().filter_map(|row| Some((row.xid?, row.endpoint_id.map(EndpointId::from))));
        let found: HashSet<_> = found.collect();
        let new = found.difference(&mark.seen).map(|(_, endpoint)| *endpoint);
        let everything = mark.running.is_none() || new.clone().any(|endpoint| endpoint.is_none());
        let endpoints = new.flatten().collect();
        *mark = RouteMark { running, seen: found };
        Ok(RouteChanges { endpoints, everything })
    }
}
