-- $1 partitions, $2 their epochs, $3 smallest event id, $5.. attempts, $20.. routed, $23.. parks, $32.. cancelled,
-- $34.. filtered, $38 why the filter failed, of each attempt, $39 states of destinations, $40.. phases and address of the
-- attempts; $46.. partitions of attempts, parks and cancelled; $4 of filtered
with owner as (
    -- The partitions whose epochs are the current ones.
    select p.partition from partitions p
    join unnest($1::int[], $2::bigint[]) as o (partition, epoch) using (partition, epoch)
    for share of p
), attempt as (
    select a.*, a.outcome = 'success' as success, a.outcome <> 'success' and a.next_retry_at is null as dead,
        -- Its answer may repeat what was expunged meanwhile.
        exists (select from expunged_payloads x where x.event_id = a.event_id) as expunged
    from unnest($5::uuid[], $6::uuid[], $7::uuid[], $8::uuid[], $9::uuid[], $10::int[], $11::int[], $12::int[],
        $13::text[], $14::int[], $15::text[], $16::text[], $17::timestamptz[], $18::timestamptz[], $19::int[],
        $38::text[], $40::bigint[], $41::int[], $42::int[], $43::int[], $44::int[], $45::text[], $46::int[])
        as a (id, organization_id, endpoint_id, event_id, destination_id, run, attempt_number, version,
              outcome, response_code, response_body_snippet, error_message, next_retry_at, attempted_at, duration_ms,
              filter_error, queue_us, dns_us, connect_us, tls_us, first_byte_us, connected_address, partition)
), park as (
    select p.* from unnest($23::uuid[], $24::uuid[], $25::uuid[], $26::uuid[], $27::int[], $28::int[], $29::int[],
        $30::timestamptz[], $31::text[], $47::int[]) as p (event_id, destination_id, organization_id, endpoint_id, run,
        attempt_number, version, due_at, reason, partition)
    join owner using (partition)
), cancelled as (
    select c.* from unnest($32::uuid[], $33::uuid[], $48::int[]) as c (event_id, destination_id, partition)
    join owner using (partition)
), filtered as (
    select f.* from unnest($34::uuid[], $35::uuid[], $36::int[], $37::int[], $4::int[])
        as f (event_id, destination_id, run, version, partition)
    join owner using (partition)
), state as (
    select s.* from jsonb_array_elements($39) as one
    join owner on owner.partition = (one -> 'partition')::int
    cross join jsonb_populate_record(null::destination_state, one) as s
), kept as (
    insert into destination_state select * from state order by destination_id
    on conflict (destination_id) do update
    set (follows, slow_until, opened_at, probe_at, trips, failures, failing_since, last_success_at, last_failure_at,
            warned_at, concurrency, disabled_reason, updated_at)
        = (excluded.follows, excluded.slow_until, excluded.opened_at, excluded.probe_at, excluded.trips,
            excluded.failures, excluded.failing_since, excluded.last_success_at, excluded.last_failure_at,
            excluded.warned_at, excluded.concurrency, excluded.disabled_reason, excluded.updated_at)
), disabled as (
    -- Unless a person has paused or resumed it meanwhile.
    update destinations d
    set status = 'disabled', disabled_reason = s.disabled_reason, disabled_at = now(), updated_at = now()
    from state s
    where s.disabled_reason is not null and d.id = s.destination_id and d.status = 'active' and d.deleted_at is null
        and d.resumed_at is not distinct from s.follows
    returning append_audit(d.organization_id, now(), 'system', null, null, 'destination.disabled', d.id,
        json_build_object('status', 'active'),
        json_build_object('status', 'disabled', 'disabled_reason', d.disabled_reason))
), recorded as (
    -- A late success replaces a failure of the same key: success is terminal, whoever records it.
    insert into deliveries as d (id, organization_id, endpoint_id, event_id, destination_id, run, attempt_number,
        outcome, response_code, response_body_snippet, error_message, next_retry_at, attempted_at, duration_ms,
        filter_error, queue_us, dns_us, connect_us, tls_us, first_byte_us, connected_address)
    select id, organization_id, endpoint_id, event_id, destination_id, run, attempt_number,
        outcome, response_code, case when not expunged then response_body_snippet end, error_message, next_retry_at,
        attempted_at, duration_ms, case when not expunged then filter_error end, queue_us, dns_us, connect_us, tls_us,
        first_byte_us, connected_address
    from attempt
    on conflict (event_id, destination_id, run, attempt_number) do update
    set outcome = excluded.outcome, response_code = excluded.response_code, error_message = null,
        response_body_snippet = excluded.response_body_snippet, next_retry_at = null, updated_at = now()
    where excluded.outcome = 'success' and d.outcome <> 'success'
    returning new.*, old.outcome as former
), counted as (
    -- What was really inserted adds, and a late success moves from one outcome to another; repeated, neither is there.
    insert into delivery_deltas (organization_id, endpoint_id, destination_id, minute, successes, redirects, client_errors,
        server_errors, timeouts, unreachable, durations)
    select r.organization_id, r.endpoint_id, r.destination_id, date_bin('1 minute', r.attempted_at, 'epoch'),
        coalesce(sum(o.change) filter (where o.outcome = 'success'), 0),
        coalesce(sum(o.change) filter (where o.outcome = 'redirect'), 0),
        coalesce(sum(o.change) filter (where o.outcome = 'client_error'), 0),
        coalesce(sum(o.change) filter (where o.outcome = 'server_error'), 0),
        coalesce(sum(o.change) filter (where o.outcome = 'timeout'), 0),
        coalesce(sum(o.change) filter (where o.outcome
            not in ('success', 'redirect', 'client_error', 'server_error', 'timeout')), 0),
        coalesce(array_agg(r.duration_ms) filter (where r.former is null), '{}')
    from recorded r cross join lateral (values (r.outcome, 1), (r.former, -1)) as o (outcome, change)
    -- What has expired was not sent.
    where o.outcome <> 'expired'
    group by 1, 2, 3, 4
), watched as (
    insert into live_attempts (organization_id, id, event_id, endpoint_id, destination_id, run, attempt_number, outcome,
        response_code, error_message, next_retry_at, duration_ms, attempted_at)
    select r.organization_id, r.id, r.event_id, r.endpoint_id, r.destination_id, r.run, r.attempt_number, r.outcome,
        r.response_code, r.error_message, r.next_retry_at, r.duration_ms, r.attempted_at
    from recorded r join live_watches w on w.organization_id = r.organization_id and w.until > now()
), decision as (
    -- Failures that the owner decides on. A pair that somebody has delivered meanwhile is beyond deciding.
    select a.* from attempt a
    join owner using (partition)
    where not a.success and not exists (select from deliveries d where d.event_id = a.event_id
        and d.event_id >= $3 and d.destination_id = a.destination_id and d.run = a.run
        and d.outcome = 'success')
), completed as (
    -- What no longer waits. A success ends its whole run; a dead letter and what a filter has refused only the row it
    -- was taken from, so that a replay that came meanwhile survives.
    delete from scheduled_deliveries s
    using (select event_id, destination_id, run, null::int as version from attempt where success
        union all select event_id, destination_id, run, version from decision where dead
        union all select event_id, destination_id, run, version from filtered) as a
    where s.event_id = a.event_id and s.destination_id = a.destination_id
        and s.run = a.run and s.version = coalesce(a.version, s.version)
    returning s.event_id, s.destination_id
), withdrawn as (
    delete from scheduled_deliveries s using cancelled c
    where s.event_id = c.event_id and s.destination_id = c.destination_id
), postponed as (
    update scheduled_deliveries s
    set due_at = a.due_at, attempt_number = a.attempt_number, version = a.version + 1, reason = a.reason
    from (
        select event_id, destination_id, run, version, next_retry_at as due_at, attempt_number + 1 as attempt_number,
            'retry' as reason
        from decision where not dead and version > 0
        union all
        select p.event_id, p.destination_id, p.run, p.version, p.due_at, p.attempt_number, p.reason
        from park p where p.version > 0
    ) as a
    where s.event_id = a.event_id and s.destination_id = a.destination_id
        and s.run = a.run and s.version = a.version
), scheduled as (
    insert into scheduled_deliveries
        (event_id, destination_id, organization_id, endpoint_id, run, attempt_number, due_at, reason)
    select * from (
        select event_id, destination_id, organization_id, endpoint_id, run, attempt_number + 1, next_retry_at, 'retry'
        from decision where not dead and version = 0
        union all
        select p.event_id, p.destination_id, p.organization_id, p.endpoint_id, p.run, p.attempt_number, p.due_at, p.reason
        from park p where p.version = 0
    ) as n (event_id, destination_id)
    -- Unless somebody has given it up meanwhile, when it had no row yet.
    where not exists (select from events e where e.id = n.event_id and e.id >= $3
        and e.pending is not null and n.destination_id <> all (e.pending))
    on conflict (event_id, destination_id) do nothing
), died as (
    select a.* from decision a
    where a.dead and (
        exists (select from completed c where c.event_id = a.event_id and c.destination_id = a.destination_id)
        or a.version = 0 and not exists (select from scheduled_deliveries s
            where s.event_id = a.event_id and s.destination_id = a.destination_id))
), unwanted as (
    select f.* from filtered f
    where exists (select from completed c where c.event_id = f.event_id and c.destination_id = f.destination_id)
        or f.version = 0 and not exists (select from scheduled_deliveries s
            where s.event_id = f.event_id and s.destination_id = f.destination_id)
), settled as (
    select event_id, destination_id, 'delivered' as how from attempt where success
    union all
    select event_id, destination_id, 'dead' from died
    union all
    select event_id, destination_id, 'filtered' from unwanted
    union all
    select event_id, destination_id, 'cancelled' from cancelled
), change as (
    -- One pass: joined instead, what is planned for a few rows takes a square of many.
    select event_id, bool_or(how = 'met') as met,
        -- The same event may be in the log twice.
        coalesce(array_agg(distinct destination_id) filter (where how = 'routed'), '{}') as routed,
        coalesce(array_agg(destination_id) filter (where how not in ('met', 'routed')), '{}') as settled,
        coalesce(array_agg(destination_id) filter (where how = 'delivered'), '{}') as delivered,
        coalesce(array_agg(destination_id) filter (where how = 'dead'), '{}') as dead,
        coalesce(array_agg(destination_id) filter (where how = 'filtered'), '{}') as filtered
    from (
        select event_id, destination_id, how from settled
        union all
        select event_id, destination_id, 'routed' from unnest($21::uuid[], $22::uuid[]) as r (event_id, destination_id)
        union all
        select event_id, null, 'met' from unnest($20::uuid[]) as m (event_id)
    ) as one
    group by event_id
), moved as (
    update events e
    set (pending, delivered, dead, filtered, status, updated_at) = (
        select n.pending, n.delivered, n.dead, n.filtered,
            case when cardinality(n.pending) > 0 then 'PENDING' when cardinality(n.dead) > 0 then 'FAILED'
                when cardinality(n.delivered) > 0 then 'SUCCESS'
                else 'DROPPED' end,
            now()
        from (
            select
                array(select p from unnest(coalesce(e.pending, c.routed)) p where p <> all (c.settled)) as pending,
                array(select distinct d from unnest(e.delivered || c.delivered) d) as delivered,
                array(select distinct d from unnest(e.dead || array(
                    select p from unnest(coalesce(e.pending, c.routed)) p where p = any (c.dead))) d
                    where d <> all (c.delivered)) as dead,
                array(select distinct f from unnest(e.filtered || array(
                    select p from unnest(coalesce(e.pending, c.routed)) p where p = any (c.filtered))) f
                    where f <> all (c.delivered)) as filtered
            -- Worked out once, not for each use.
            offset 0
        ) as n
    )
    from change c
    where e.id = c.event_id and e.id >= $3 and (c.met or e.pending is not null)
    returning e.id
), buried as (
    insert into dead_letters (event_id, destination_id, organization_id, endpoint_id, run, reason)
    -- A replay of what was delivered once leaves it delivered, whatever comes of the replay.
    select event_id, destination_id, organization_id, endpoint_id, run, outcome from died
    where not exists (select from deliveries d where d.event_id = died.event_id and d.event_id >= $3
        and d.destination_id = died.destination_id and d.outcome = 'success')
    on conflict (event_id, destination_id) do nothing
), exhumed as (
    delete from dead_letters l using attempt a
    where a.success and l.event_id = a.event_id and l.destination_id = a.destination_id
)
select partition as "partition!" from owner
