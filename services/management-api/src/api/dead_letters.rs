//! Dead letters: what was given up.

use axum::Json as Answer;
use chrono::{DateTime, Utc};
use ravenpost_chassis::problem::{Problem, Query};
use ravenpost_core::access::{decode_pair_cursor, encode_pair_cursor};
use ravenpost_core::ids::{DestinationId, EndpointId, EventId};
use ravenpost_store::tenant::{DeadLetter, DeadLetterFilter, DeadLetterPage};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Failure;
use super::page::{List, limit, some, text};
use crate::auth::{Caller, EventsRead};

/// Which dead letters to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeadLetterQuery {
    /// Of one endpoint.
    endpoint_id: Option<EndpointId>,
    /// Of one destination.
    destination_id: Option<DestinationId>,
    /// Given up for that reason.
    #[param(example = "timeout")]
    reason: Option<String>,
    /// Whose event was received at or after (RFC 3339).
    received_after: Option<DateTime<Utc>>,
    /// Whose event was received before (RFC 3339).
    received_before: Option<DateTime<Utc>>,
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// The `next` of the page before; absent for the first one.
    next: Option<String>,
}

/// An event that was given up for a destination.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(super) struct DeadLetterBody {
    /// The event.
    event_id: EventId,
    /// For which destination.
    destination_id: DestinationId,
    /// Through which endpoint it came.
    endpoint_id: EndpointId,
    /// The run that was the last one: 0 for the original delivery, each replay is the next.
    run: u32,
    /// Why it was given up: the outcome of its last attempt.
    #[schema(example = "timeout")]
    reason: String,
    /// When it was given up.
    died_at: DateTime<Utc>,
    /// When the event was received.
    received_at: DateTime<Utc>,
    /// What its producer says it is.
    #[schema(required = true)]
    event_type: Option<String>,
}

impl From<DeadLetter> for DeadLetterBody {
    fn from(letter: DeadLetter) -> Self {
        Self {
            event_id: letter.event_id,
            destination_id: letter.destination_id,
            endpoint_id: letter.endpoint_id,
            run: letter.run,
            reason: letter.reason,
            died_at: letter.died_at,
            received_at: letter.received_at,
            event_type: letter.event_type,
        }
    }
}

impl DeadLetterQuery {
    fn page(&self) -> Result<DeadLetterPage, Problem> {
        let cursor = |text: &str| {
            let pair =
                decode_pair_cursor(text).map(|(event, destination)| (event.into(), destination.into()));
            pair.ok_or_else(|| Problem::invalid_parameter("next", "not a cursor of ours"))
        };
        Ok(DeadLetterPage { after: self.next.as_deref().map(cursor).transpose()?, limit: limit(self.limit)? })
    }
}

/// List dead letters.
///
/// What was given up, one entry for each event and destination, the newest event first. Each can be replayed: alone
/// (`POST /events/{event_id}/replay`) or many at once (`POST /replays`).
#[utoipa::path(get, path = "/dead-letters", tag = "replays", operation_id = "list_dead_letters",
    params(DeadLetterQuery), security(("api_key" = ["events:read"])),
    responses((status = 200, body = List<DeadLetterBody>)))]
pub(super) async fn list(
    caller: Caller<EventsRead>,
    Query(query): Query<DeadLetterQuery>,
) -> Result<Answer<List<DeadLetterBody>>, Failure> {
    let page = query.page()?;
    let filter = DeadLetterFilter {
        endpoint: query.endpoint_id,
        destination: query.destination_id,
        reason: text("reason", query.reason.as_deref())?,
        received_after: query.received_after,
        received_before: query.received_before,
    };
    let letters = caller.tenant.dead_letters(&filter, page).await?;
    let next = letters.next.map(|(event, destination)| encode_pair_cursor(event.0, destination.0));
    Ok(Answer(some(letters.rows.into_iter().map(DeadLetterBody::from), next)))
}
