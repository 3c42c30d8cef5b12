//! Rows that speak of an event which is not there: it was accepted, and its row is gone.

use ravenpost_core::ids::{EventId, OrganizationId};
use ravenpost_core::ledger::{Fault, Finding};
use sqlx::PgConnection;

use super::Range;
use crate::Result;

/// The first `most` such events of a range, each once, in their order.
pub(super) async fn strays(connection: &mut PgConnection, range: Range, most: i64) -> Result<Vec<Finding>> {
    let query = sqlx::query!(
        r#"select distinct on (event_id) event_id as "event_id!", organization_id as "organization_id!" from (
             (select distinct on (h.event_id) h.event_id, h.organization_id from event_headers h
                where h.event_id > $1 and h.event_id <= $2
                    and not exists (select from events e where e.id = h.event_id and e.id > $1 and e.id <= $2)
                order by h.event_id limit $3)
             union all
             (select distinct on (s.event_id) s.event_id, s.organization_id from scheduled_deliveries s
                where s.event_id > $1 and s.event_id <= $2
                    and not exists (select from events e where e.id = s.event_id and e.id > $1 and e.id <= $2)
                order by s.event_id limit $3)
             union all
             (select distinct on (l.event_id) l.event_id, l.organization_id from dead_letters l
                where l.event_id > $1 and l.event_id <= $2
                    and not exists (select from events e where e.id = l.event_id and e.id > $1 and e.id <= $2)
                order by l.event_id limit $3)
             union all
             (select distinct on (d.event_id) d.event_id, d.organization_id from deliveries d
                where d.event_id > $1 and d.event_id <= $2
                    and not exists (select from events e where e.id = d.event_id and e.id > $1 and e.id <= $2)
                order by d.event_id limit $3)
         ) as stray order by event_id limit $3"#,
        range.after,
        range.through,
        most
    );
    let rows = query.fetch_all(connection).await?;
    let finding = |event_id, organization_id| Finding {
        fault: Fault::EventMissing,
        organization_id: OrganizationId(organization_id),
        event_id: EventId(event_id),
        destination_id: None,
    };
    Ok(rows.into_iter().map(|row| finding(row.event_id, row.organization_id)).collect())
}
