//! What is already known of messages that may have been handled before (PROTOCOLS W3).

use std::collections::{HashMap, HashSet};

use ravenpost_core::ids::{DestinationId, EventId};

use super::System;
use crate::Result;
use crate::lease::bounded;

/// What is known of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The destinations that it still waits for; `None` when it was never routed.
    pub pending: Option<HashSet<DestinationId>>,
    /// Those among them that have a row in the schedule and come back by themselves.
    pub scheduled: HashSet<DestinationId>,
    /// The last recorded attempt of the original run.
    pub attempts: HashMap<DestinationId, i32>,
}

impl System {
    /// What is known of each of `events`; those without a row are absent.
    pub async fn known(&self, events: &[EventId]) -> Result<HashMap<EventId, Known>> {
        let ids: Vec<_> = events.iter().map(|event| event.0).collect();
        let (Some(low), Some(high)) = (ids.iter().min(), ids.iter().max()) else { return Ok(HashMap::new()) };
        let rows = bounded!(
            self,
            sqlx::query!(
                r#"select e.id, e.pending,
                array(select s.destination_id from scheduled_deliveries s where s.event_id = e.id) as "scheduled!"
            from events e where e.id = any ($1) and e.id between $2 and $3"#,
                &ids,
                low,
                high
            ),
            fetch_all
        );
        let mut known: HashMap<EventId, Known> = rows
            .into_iter()
            .map(|row| {
                let pending = row.pending.map(|ids| ids.into_iter().map(DestinationId).collect());
                let scheduled = row.scheduled.into_iter().map(DestinationId).collect();
                (EventId(row.id), Known { pending, scheduled, attempts: HashMap::new() })
            })
            .collect();
        let attempts = bounded!(
            self,
            sqlx::query!(
                r#"select event_id, destination_id, max(attempt_number) as "attempt_number!" from deliveries
            where event_id = any ($1) and event_id between $2 and $3 and run = 0
            group by event_id, destination_id"#,
                &ids,
                low,
                high
            ),
            fetch_all
        );
        for row in attempts {
            if let Some(event) = known.get_mut(&EventId(row.event_id)) {
                event.attempts.insert(DestinationId(row.destination_id), row.attempt_number);
            }
        }
        Ok(known)
    }
}
