//! Very many rows that wait for one destination, written straight into Postgres: accepting them one by one would take
//! longer than a test may.

use uuid::Uuid;

/// How many [`count`] gives unless it is told otherwise.
const MANY: i64 = 100_000;

/// How many rows tests of a large backlog make: `HELD_ROWS`, or enough to tell a plan that reads all of them.
pub fn count() -> i64 {
    std::env::var("HELD_ROWS").ok().and_then(|text| text.parse().ok()).unwrap_or(MANY)
}

/// What waits, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// For which destination.
    pub destination_id: Uuid,
    /// An event of the same endpoint: theirs are copies of it, with its payload.
    pub like: Uuid,
    /// The number of the last one.
    pub count: i64,
}

impl Held {
    /// Makes the rows of events `first` to `count`, as workers leave them when a destination is held. The first is the
    /// oldest, a millisecond older than the next; the last has been waiting for a minute, or longer if it is not the
    /// last of [`count`].
    pub fn statement(&self, first: i64) -> String {
        let Self { destination_id, like, count } = self;
        let at = format!(
            "date_trunc('milliseconds', now()) - interval '1 minute' - ({} - n) * interval '1 millisecond'",
            self::count().max(*count)
        );
        let numbered = format!(
            "events e, generate_series({first}::bigint, {count}) n,
             lateral (select {at} as at) t,
             lateral (select overlay(overlay(uuid_v7_floor(t.at)::text placing '7' from 15)
                 placing '8' || lpad(to_hex(n / 4294967296), 3, '0') || '-' || lpad(to_hex(n), 12, '0') from 20)::uuid as id) i
             where e.id = '{like}'"
        );
        format!(
            "set local synchronous_commit = local;
             create temporary table held on commit drop as
                 select i.id, t.at, e.organization_id, e.endpoint_id, e.instance_id, e.s3_key, e.s3_offset, e.s3_length,
                     e.slot, e.body_sha256, e.event_type, e.content_type
                 from {numbered} order by n;
             insert into events (id, organization_id, endpoint_id, instance_id, received_at, updated_at, s3_key, s3_offset,
                     s3_length, slot, body_sha256, event_type, content_type, pending)
                 select id, organization_id, endpoint_id, instance_id, at, at, s3_key, s3_offset, s3_length, slot,
                     body_sha256, event_type, content_type, array['{destination_id}'::uuid] from held;
             insert into event_headers (event_id, organization_id, headers)
                 select h.id, h.organization_id, e.headers from held h, event_headers e where e.event_id = '{like}';
             insert into scheduled_deliveries (event_id, destination_id, organization_id, endpoint_id, due_at, run,
                     attempt_number, reason)
                 select id, '{destination_id}', organization_id, endpoint_id, at, 0, 1, 'held' from held;"
        )
    }
}
