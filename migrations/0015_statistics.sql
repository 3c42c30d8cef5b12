-- Statistics of what was accepted and attempted, live listeners, and payloads that were erased.
-- docs/decisions/0034 and 0035 tell why these tables look as they do.

-- What a record has added, one row for each destination and minute of it: written in its own statement and never updated.
-- A correction (a late success of what was taken for a failure) is negative.
create table delivery_deltas (
    organization_id uuid not null,
    endpoint_id uuid not null,
    destination_id uuid not null,
    minute timestamptz not null,
    successes integer not null,
    redirects integer not null,
    client_errors integer not null,
    server_errors integer not null,
    timeouts integer not null,
    unreachable integer not null,
    -- How long each of the attempts took, in milliseconds.
    durations integer[] not null
);
create index delivery_deltas_by_organization on delivery_deltas (organization_id);

-- What the deltas and the accepted events have come to, by minute, hour and day. The nil id stands for all: of an
-- organization's endpoints, or of an endpoint's destinations, so that no question reads more rows than it has buckets.
create table delivery_stats (
    organization_id uuid not null,
    endpoint_id uuid not null,
    destination_id uuid not null,
    grain text not null check (grain in ('minute', 'hour', 'day')),
    starts_at timestamptz not null,
    -- Events and their bytes; zero in the rows of a destination.
    accepted bigint not null,
    accepted_bytes bigint not null,
    successes bigint not null,
    redirects bigint not null,
    client_errors bigint not null,
    server_errors bigint not null,
    timeouts bigint not null,
    unreachable bigint not null,
    -- Attempts by how long they took; core::statistics has the bounds.
    latency bigint[] not null,
    primary key (organization_id, endpoint_id, destination_id, grain, starts_at)
) with (fillfactor = 70);
create index delivery_stats_by_age on delivery_stats (grain, starts_at);

-- Up to which event the accepted ones are counted.
create table statistics_progress (
    singleton boolean primary key default true check (singleton),
    counted_through uuid not null
);
insert into statistics_progress (counted_through) values (uuid_v7_floor(now()));

-- Which organizations somebody listens to: their attempts are kept for a moment as they are recorded. Unlogged as these are:
-- a crash of Postgres empties both, so that the gap shows.
create unlogged table live_watches (
    organization_id uuid primary key references organizations (id),
    since timestamptz not null,
    until timestamptz not null
);

-- Attempts of watched organizations. A moment's view, of which a crash of Postgres may leave nothing.
create unlogged table live_attempts (
    organization_id uuid not null,
    id uuid not null,
    recorded_at timestamptz not null default clock_timestamp(),
    event_id uuid not null,
    endpoint_id uuid not null,
    destination_id uuid not null,
    run integer not null,
    attempt_number integer not null,
    outcome text not null,
    response_code integer,
    error_message text,
    next_retry_at timestamptz,
    duration_ms integer not null,
    attempted_at timestamptz not null
);
create index live_attempts_by_time on live_attempts (organization_id, recorded_at);
create index live_attempts_by_age on live_attempts (recorded_at);

-- Payloads that a person has had erased: nothing reads or sends them any more. The row is the work that is left: the
-- range in the object is overwritten under held_until, one range of an object at a time.
alter table events add column expunged_at timestamptz;
create table expunged_payloads (
    organization_id uuid not null,
    event_id uuid not null,
    s3_key text not null,
    s3_offset bigint not null,
    s3_length bigint not null,
    expunged_at timestamptz not null,
    erased_at timestamptz,
    primary key (organization_id, event_id)
);
create index expunged_payloads_to_erase on expunged_payloads (s3_key) where erased_at is null;
create index expunged_payloads_lately on expunged_payloads (expunged_at);
create table payload_locks (
    s3_key text primary key,
    holder uuid not null,
    held_until timestamptz not null
);

do $$
declare
    tenant_table text;
begin
    foreach tenant_table in array array['delivery_deltas', 'delivery_stats', 'live_watches', 'live_attempts',
        'expunged_payloads']
    loop
        execute format('alter table %I enable row level security', tenant_table);
        execute format('alter table %I force row level security', tenant_table);
        execute format('create policy tenant on %I to ravenpost_tenant using (organization_id = current_organization())',
            tenant_table);
        execute format('create policy system on %I to ravenpost_system using (true)', tenant_table);
    end loop;
end
$$;

-- Of no organization, and for each to see; for nobody else.
alter table statistics_progress enable row level security;
alter table statistics_progress force row level security;
create policy tenant on statistics_progress to ravenpost_tenant using (current_organization() is not null);
create policy system on statistics_progress to ravenpost_system using (true);

grant select on delivery_deltas, delivery_stats, live_attempts, statistics_progress to ravenpost_tenant;
grant select, insert on expunged_payloads to ravenpost_tenant;
grant select, insert, update on live_watches to ravenpost_tenant;
grant insert on dead_letters to ravenpost_tenant;
grant update (expunged_at) on events to ravenpost_tenant;
grant select, insert, update, delete on delivery_deltas, delivery_stats, statistics_progress, live_watches,
    live_attempts, expunged_payloads, payload_locks to ravenpost_system;
