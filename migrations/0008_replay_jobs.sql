-- Bulk replay as a durable job, the dead-letter view, and replay by itself after a recovery.

-- What was asked for. Its progress stands with its destinations, each of which goes at a pace of its own.
create table replay_jobs (
    organization_id uuid not null references organizations (id),
    id uuid not null,
    kind text not null check (kind in ('replay', 'recover', 'automatic')),
    state text not null default 'queued'
        check (state in ('queued', 'running', 'paused', 'cancelled', 'done', 'failed')),
    filter jsonb not null,
    -- Events after this one were accepted after the job was made and are not its business (D5).
    through uuid not null,
    -- An automatic job takes no dead letter of a later moment, and none of this run or a later one.
    died_before timestamptz,
    runs_below integer,
    -- Most deliveries that are scheduled in a second, for each destination.
    rate integer check (rate > 0),
    matched bigint not null,
    matched_exactly boolean not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz,
    primary key (organization_id, id),
    constraint replay_jobs_id_key unique (id)
);
create index replay_jobs_unfinished on replay_jobs (organization_id, id) where state in ('queued', 'running', 'paused');

-- How far a job is with one destination. Whoever holds the row's lock works on it, so that a process which dies leaves
-- it to the others at once; next_step_at alone says whose turn it is ('infinity' while the job is paused).
create table replay_job_destinations (
    organization_id uuid not null,
    job_id uuid not null,
    destination_id uuid not null,
    endpoint_id uuid not null,
    phase text not null default 'scheduling' check (phase in ('scheduling', 'draining', 'withdrawing', 'ended')),
    -- Events up to this one were looked at.
    reached uuid not null,
    scheduled bigint not null default 0,
    skipped bigint not null default 0,
    withdrawn bigint not null default 0,
    next_step_at timestamptz not null default now(),
    failed boolean not null default false,
    error text,
    primary key (organization_id, job_id, destination_id),
    foreign key (organization_id, job_id) references replay_jobs (organization_id, id) on delete cascade
) with (fillfactor = 80);
create index replay_job_destinations_next on replay_job_destinations (next_step_at) where phase <> 'ended';

-- Which job a row in the schedule is of, and what its dead letter said, should the job be cancelled before it is sent.
alter table scheduled_deliveries
    add column replay_job_id uuid,
    add column died_of text;
create index scheduled_deliveries_by_job on scheduled_deliveries (replay_job_id, destination_id, attempt_number, event_id)
    where replay_job_id is not null;

-- Only what was given up stands in this table: it is small enough to be indexed in a moment.
create index dead_letters_by_destination on dead_letters (destination_id, event_id);
create index dead_letters_by_endpoint on dead_letters (endpoint_id, event_id);

-- Whether the dead letters of a destination are replayed by themselves when it has recovered, and when it last has:
-- the first success after several failures in a row, as the notifier reads them.
alter table destinations add column replay_on_recovery boolean not null default false;
create index destinations_replaying on destinations (id) where replay_on_recovery;
alter table destination_health
    add column recovered_at timestamptz,
    add column replayed_recovery_at timestamptz;

do $$
declare
    tenant_table text;
begin
    foreach tenant_table in array array['replay_jobs', 'replay_job_destinations'] loop
        execute format('alter table %I enable row level security', tenant_table);
        execute format('alter table %I force row level security', tenant_table);
        execute format('create policy tenant on %I to ravenpost_tenant using (organization_id = current_organization())',
            tenant_table);
        execute format('create policy system on %I to ravenpost_system using (true)', tenant_table);
    end loop;
end
$$;

grant select, insert, update on replay_jobs, replay_job_destinations to ravenpost_tenant;
grant insert on dead_letters to ravenpost_tenant;
grant select, insert, update, delete on replay_jobs, replay_job_destinations to ravenpost_system;
