-- Requests that failed verification, kept for inspection apart from events. README.md beside this file tells how they
-- are written, capped and removed.
create table rejected_requests (
    organization_id uuid not null,
    id uuid not null,
    endpoint_id uuid not null,
    received_at timestamptz not null,
    -- When the row was written. Its object is written within a minute of it, and nothing is removed before.
    created_at timestamptz not null default now(),
    -- Removed as far as anybody can see; the object and the row follow.
    deleted_at timestamptz,
    accepted_at timestamptz,
    event_id uuid,
    body_length bigint not null,
    body_sha256 bytea not null,
    reason text not null,
    detail text not null,
    method text not null,
    peer text,
    -- Query and headers, sealed: credentials stand among them.
    head bytea not null,
    primary key (organization_id, id),
    constraint rejected_requests_id_key unique (id)
);
create index rejected_requests_by_endpoint on rejected_requests (endpoint_id, id);
create index rejected_requests_deleted on rejected_requests (id) where deleted_at is not null;

-- How many requests of an endpoint were rejected in an hour: kept above, and not kept.
create table rejected_counts (
    organization_id uuid not null,
    endpoint_id uuid not null,
    hour timestamptz not null,
    kept bigint not null,
    not_kept bigint not null,
    primary key (organization_id, endpoint_id, hour)
) with (fillfactor = 80);
create index rejected_counts_by_hour on rejected_counts (hour);

do $$
declare
    tenant_table text;
begin
    foreach tenant_table in array array['rejected_requests', 'rejected_counts'] loop
        execute format('alter table %I enable row level security', tenant_table);
        execute format('alter table %I force row level security', tenant_table);
        execute format('create policy tenant on %I to ravenpost_tenant using (organization_id = current_organization())',
            tenant_table);
        execute format('create policy system on %I to ravenpost_system using (true)', tenant_table);
    end loop;
end
$$;

grant select, update (deleted_at, accepted_at, event_id) on rejected_requests to ravenpost_tenant;
grant select on rejected_counts to ravenpost_tenant;
grant select, insert, update, delete on rejected_requests, rejected_counts to ravenpost_system;
