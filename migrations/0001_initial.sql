-- The first schema. README.md beside this file says how migrations are written and why tables look as they do.

-- Roles: what a connection may do. Services log in as one user that is a member of all three and choose per door.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['ravenpost_tenant', 'ravenpost_system', 'ravenpost_maintenance'] loop
        begin
            execute format('create role %I nologin', role_name);
        exception when duplicate_object or unique_violation then
            null; -- another database of this cluster has made it
        end;
    end loop;
    execute format('grant ravenpost_tenant, ravenpost_system, ravenpost_maintenance to %I', current_user);
exception when unique_violation or sqlstate 'XX000' then
    null; -- two databases granting at the same moment: the other one's grant counts
end
$$;

-- Who the current transaction acts for; null when nobody is set, and then nothing is visible.
create function current_organization() returns uuid
    language sql stable parallel safe
    return nullif(current_setting('ravenpost.organization_id', true), '')::uuid;

create table organizations (
    id uuid primary key,
    name text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table api_keys (
    organization_id uuid not null references organizations (id),
    id uuid not null,
    name text not null,
    prefix text not null,
    hash bytea not null,
    scopes text[] not null,
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (organization_id, id),
    constraint api_keys_prefix_key unique (prefix)
);

create table endpoints (
    organization_id uuid not null references organizations (id),
    id uuid not null,
    user_id uuid,
    name text not null,
    token text not null,
    verification jsonb not null,
    secret_key bytea,
    max_body_bytes integer,
    status text not null default 'active' check (status in ('active', 'paused')),
    slot integer not null check (slot between 0 and 65535),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    primary key (organization_id, id),
    constraint endpoints_id_key unique (id),
    constraint endpoints_token_key unique (token)
);

create table destinations (
    organization_id uuid not null,
    id uuid not null,
    endpoint_id uuid not null,
    name text not null,
    url text not null,
    signing_secret bytea not null,
    retry_policy jsonb not null,
    timeout_ms integer not null,
    status text not null default 'active' check (status in ('active', 'paused')),
    slot integer not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    primary key (organization_id, id),
    constraint destinations_id_key unique (id),
    foreign key (organization_id, endpoint_id) references endpoints (organization_id, id)
);
create index destinations_by_endpoint on destinations (endpoint_id);

-- What ingress accepts. No foreign keys to partitioned tables (D1); no index names a column that changes (D3).
-- pending, delivered and dead are sets of destinations: null pending means not routed yet.
create table events (
    id uuid not null,
    organization_id uuid not null,
    endpoint_id uuid not null,
    instance_id uuid not null,
    received_at timestamptz not null,
    updated_at timestamptz not null,
    s3_offset bigint not null,
    s3_length bigint not null,
    slot integer not null,
    status text not null default 'PENDING' check (status in ('PENDING', 'SUCCESS', 'FAILED', 'DROPPED')),
    s3_key text not null,
    body_sha256 bytea not null,
    event_type text,
    content_type text,
    traceparent text,
    pending uuid[],
    delivered uuid[] not null default '{}',
    dead uuid[] not null default '{}',
    primary key (id)
) partition by range (id);
create index events_by_endpoint on events (endpoint_id, id);
create index events_by_organization on events (organization_id, id);

-- The producer's headers, as bytes; written once, so that status updates of events stay narrow.
create table event_headers (
    event_id uuid not null,
    organization_id uuid not null,
    headers bytea not null,
    primary key (event_id)
) partition by range (event_id);

-- One row an attempt. The key makes recording idempotent (W5).
create table deliveries (
    event_id uuid not null,
    destination_id uuid not null,
    run integer not null,
    attempt_number integer not null,
    id uuid not null,
    organization_id uuid not null,
    endpoint_id uuid not null,
    outcome text not null,
    response_code integer,
    response_body_snippet text,
    error_message text,
    next_retry_at timestamptz,
    duration_ms integer not null,
    attempted_at timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (event_id, destination_id, run, attempt_number)
) partition by range (event_id);

-- What waits for its time. due_at is indexed although it moves: it is what this narrow table is read by.
create table scheduled_deliveries (
    event_id uuid not null,
    destination_id uuid not null,
    organization_id uuid not null,
    endpoint_id uuid not null,
    due_at timestamptz not null,
    created_at timestamptz not null default now(),
    run integer not null,
    attempt_number integer not null,
    version integer not null default 1,
    reason text not null check (reason in ('retry', 'parked', 'held', 'replay')),
    primary key (event_id, destination_id)
) with (fillfactor = 80);
create index scheduled_deliveries_due on scheduled_deliveries (destination_id, due_at, event_id);

-- What was given up; stays replayable.
create table dead_letters (
    event_id uuid not null,
    destination_id uuid not null,
    organization_id uuid not null,
    endpoint_id uuid not null,
    run integer not null,
    reason text not null,
    created_at timestamptz not null default now(),
    primary key (event_id, destination_id)
);
create index dead_letters_by_organization on dead_letters (organization_id, event_id);

-- Who owns a Kafka partition: each taking raises the epoch, and decisions of an older one do not count (W2).
create table partitions (
    partition integer primary key,
    epoch bigint not null default 0,
    taken_at timestamptz not null default now()
);

-- Runs of ingress processes, and how far each has published what it committed (I2 to I4).
create table ingress_instances (
    id uuid primary key,
    heartbeat bigint not null default 0,
    published_through uuid,
    started_at timestamptz not null default now()
);

create table ingress_lanes (
    instance_id uuid not null references ingress_instances (id) on delete cascade,
    lane integer not null,
    primary key (instance_id, lane)
);

create table channels (
    organization_id uuid not null references organizations (id),
    id uuid not null,
    type text not null check (type in ('email')),
    address text not null,
    created_at timestamptz not null default now(),
    primary key (organization_id, id),
    constraint channels_address_key unique (organization_id, type, address)
);

-- How a destination has fared lately, as far as the notifier has read.
create table destination_health (
    destination_id uuid primary key,
    organization_id uuid not null,
    endpoint_id uuid not null,
    failures_in_a_row integer not null,
    observed_partition integer not null,
    observed_offset bigint not null,
    updated_at timestamptz not null default now()
);

create table alerts (
    organization_id uuid not null,
    id uuid not null,
    endpoint_id uuid not null,
    destination_id uuid not null,
    kind text not null check (kind in ('consecutive_failures')),
    failures integer not null,
    last_error text,
    opened_at timestamptz not null default now(),
    notified_at timestamptz,
    resolved_at timestamptz,
    -- Who was told already, and when the others are tried again.
    told text[] not null default '{}',
    tell_at timestamptz not null default now(),
    primary key (organization_id, id)
);
create unique index alerts_open on alerts (destination_id, kind) where resolved_at is null;
create index alerts_unnotified on alerts (tell_at) where notified_at is null;

-- The smallest UUIDv7 of a moment: the bound of a partition.
create function uuid_v7_floor(moment timestamptz) returns uuid
    language sql immutable parallel safe
    return (lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid;

-- Makes the daily partitions of yesterday to `days_ahead` from today that are missing, and says how many it made.
create function ensure_partitions(days_ahead integer) returns integer
    language plpgsql security definer set search_path = public, pg_temp
as $$
declare
    parent text;
    day timestamptz;
    child text;
    made integer := 0;
begin
    for day in
        select d from generate_series(date_trunc('day', now(), 'UTC') - interval '1 day',
            date_trunc('day', now(), 'UTC') + make_interval(days => days_ahead), interval '1 day') d
    loop
        foreach parent in array array['events', 'event_headers', 'deliveries'] loop
            child := parent || to_char(day at time zone 'UTC', '"_"YYYYMMDD');
            continue when to_regclass(child) is not null;
            execute format('create table %I (like %I including defaults including constraints) with (fillfactor = %s)',
                child, parent, case parent when 'event_headers' then 100 else 80 end);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)',
                parent, child, uuid_v7_floor(day), uuid_v7_floor(day + interval '1 day'));
            made := made + 1;
        end loop;
    end loop;
    return made;
end
$$;
revoke execute on function ensure_partitions from public;
select ensure_partitions(7);

-- Grants and row-level security. The tenant door sees its organization; the system door sees everything.
grant execute on function ensure_partitions to ravenpost_maintenance;

do $$
declare
    tenant_table text;
begin
    foreach tenant_table in array array['organizations', 'api_keys', 'endpoints', 'destinations', 'events',
        'event_headers', 'deliveries', 'scheduled_deliveries', 'dead_letters', 'channels', 'destination_health',
        'alerts']
    loop
        execute format('alter table %I enable row level security', tenant_table);
        execute format('alter table %I force row level security', tenant_table);
        execute format('create policy tenant on %I to ravenpost_tenant using (%I = current_organization())',
            tenant_table, case tenant_table when 'organizations' then 'id' else 'organization_id' end);
        execute format('create policy system on %I to ravenpost_system using (true)', tenant_table);
    end loop;
end
$$;

grant select on organizations, api_keys, event_headers, deliveries, destination_health, alerts to ravenpost_tenant;
grant select, insert, update on endpoints, destinations to ravenpost_tenant;
grant select, insert, delete on channels to ravenpost_tenant;
grant select, insert, update, delete on scheduled_deliveries to ravenpost_tenant;
grant select, delete on dead_letters to ravenpost_tenant;
grant select, update (pending, delivered, dead, status, updated_at) on events to ravenpost_tenant;

grant select, insert, update, delete on organizations, api_keys, endpoints, destinations, events, event_headers,
    deliveries, scheduled_deliveries, dead_letters, partitions, ingress_instances, ingress_lanes, channels,
    destination_health, alerts to ravenpost_system;
grant select on _sqlx_migrations to ravenpost_system;
