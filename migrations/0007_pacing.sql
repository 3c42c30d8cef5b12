-- How fast a destination is sent to, and how it fares.

-- limits: null means as the operator has set it. disable_after_ms: null likewise, 0 never.
-- resumed_at: a person has set it active then; what destination_state says of the time before is void.
alter table destinations
    add column limits jsonb,
    add column disable_after_ms bigint,
    add column disabled_reason text,
    add column disabled_at timestamptz,
    add column resumed_at timestamptz;
alter table destinations drop constraint destinations_status_check;
alter table destinations
    add constraint destinations_status_check check (status in ('active', 'paused', 'disabled')) not valid,
    add constraint destinations_disabled_reason_check check (disabled_reason in ('gone', 'failing')) not valid;

-- What the answers of a destination have made of it. It gates its lane, so that it is written with the attempts
-- themselves, and read before the first send by whoever takes its partition. The columns are the fields of
-- core::pacing::Health.
create table destination_state (
    destination_id uuid primary key,
    organization_id uuid not null,
    -- The resumed_at that this state comes after.
    follows timestamptz,
    slow_until timestamptz,
    opened_at timestamptz,
    probe_at timestamptz,
    trips bigint not null,
    failures bigint not null,
    failing_since timestamptz,
    last_success_at timestamptz,
    last_failure_at timestamptz,
    warned_at timestamptz,
    concurrency integer,
    disabled_reason text check (disabled_reason in ('gone', 'failing')),
    updated_at timestamptz not null default now()
) with (fillfactor = 50);

alter table destination_state enable row level security;
alter table destination_state force row level security;
create policy tenant on destination_state to ravenpost_tenant using (organization_id = current_organization());
create policy system on destination_state to ravenpost_system using (true);

grant select on destination_state to ravenpost_tenant;
grant select, insert, update, delete on destination_state to ravenpost_system;
