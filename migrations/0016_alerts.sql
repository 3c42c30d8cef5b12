-- Rules of alerts, channels of every type, and what each channel is told. docs/decisions/0037 and 0038 tell why.
-- A notifier of the release before goes on opening and mailing its one kind of alert; what this one opens it leaves alone,
-- since tell_at is infinite as soon as notifications are written.

create table alert_rules (
    organization_id uuid not null references organizations (id),
    id uuid not null,
    name text not null,
    -- core::alert has the conditions; the longest window in use says how far back is read after a restart.
    condition jsonb not null,
    window_seconds integer not null,
    scope jsonb not null,
    severity text not null check (severity in ('info', 'warning', 'critical')),
    cool_down_seconds integer not null,
    muted_until timestamptz,
    quiet_from smallint,
    quiet_to smallint,
    -- Who is told; all channels when it is null.
    channel_ids uuid[],
    enabled boolean not null default true,
    -- For If-Match.
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (organization_id, id)
);

-- An address of a channel that is none of e-mail tells them apart and holds no secret.
alter table channels drop constraint channels_type_check;
alter table channels
    add constraint channels_type_check
        check (type in ('email', 'slack', 'teams', 'pagerduty', 'opsgenie', 'webhook')),
    add column name text not null default '',
    -- What a type takes beside the address, sealed for the channel's id.
    add column config bytea,
    add column state text not null default 'enabled' check (state in ('enabled', 'disabled')),
    add column disabled_reason text,
    -- Failures in a row that will not mend by themselves.
    add column failures integer not null default 0,
    -- Nothing more is sent before then: a channel has its pace.
    add column next_send_at timestamptz not null default '-infinity',
    add column last_sent_at timestamptz,
    add column version bigint not null default 1;
create trigger raise_version before update of name, config, state, disabled_reason on channels
    for each row execute function raise_version();

-- `kind` names the rule: the condition of a default, or the id of an organization's own. The subject is the destination,
-- else the endpoint, else the organization.
alter table alerts drop constraint alerts_kind_check;
alter table alerts
    alter column endpoint_id drop not null,
    alter column destination_id drop not null,
    alter column failures set default 0,
    add column condition text not null default 'consecutive_failures',
    add column rule_name text not null default 'A destination keeps failing',
    add column severity text not null default 'warning' check (severity in ('info', 'warning', 'critical')),
    add column evidence jsonb not null default '{}',
    add column channel_ids uuid[],
    add column acknowledged_at timestamptz,
    add column acknowledged_by text,
    add column resolved_by text,
    add column muted_until timestamptz;
-- One open alert for each rule and subject, whatever crashes. alerts_open of the first migration says so of destinations alone
-- and goes with the next release.
create unique index alerts_open_of_subject on alerts (coalesce(destination_id, endpoint_id, organization_id), kind)
    where resolved_at is null;
-- Whether the same trouble was resolved a moment ago.
create index alerts_resolved_lately on alerts (coalesce(destination_id, endpoint_id, organization_id), kind, resolved_at)
    where resolved_at is not null;
create index alerts_resolved_by_age on alerts (resolved_at) where resolved_at is not null;

-- How a destination's streak began: what no window in Kafka reaches.
alter table destination_health
    add column failing_since timestamptz,
    add column last_success_at timestamptz,
    add column last_attempt_at timestamptz,
    add column last_error text;
create index destination_health_by_partition on destination_health (observed_partition);

-- One thing to be told to one channel. Written with what it tells of, in one transaction.
create table notifications (
    organization_id uuid not null references organizations (id),
    id uuid not null default uuidv7(),
    channel_id uuid not null,
    -- Absent for a test, and for a notice that another channel is broken.
    alert_id uuid,
    broken_channel_id uuid,
    kind text not null check (kind in ('fired', 'acknowledged', 'resolved', 'test', 'channel_disabled')),
    state text not null default 'pending' check (state in ('pending', 'sent', 'failed')),
    attempts integer not null default 0,
    next_at timestamptz not null default now(),
    -- Whoever sends it has it until then.
    claimed_until timestamptz,
    last_error text,
    -- What it was told with: several alerts are one incident of a pager.
    incident uuid,
    created_at timestamptz not null default now(),
    sent_at timestamptz,
    primary key (organization_id, id),
    foreign key (organization_id, channel_id) references channels (organization_id, id) on delete cascade
);
create unique index notifications_once on notifications (alert_id, channel_id, kind) where alert_id is not null;
create index notifications_pending on notifications (channel_id, next_at) where state = 'pending';
create index notifications_by_age on notifications (created_at) where state <> 'pending';

-- The counts of an hour by its minutes, for what is asked of less than an hour.
alter table rejected_counts add column by_minute bigint[];

do $$
declare
    tenant_table text;
begin
    foreach tenant_table in array array['alert_rules', 'notifications']
    loop
        execute format('alter table %I enable row level security', tenant_table);
        execute format('alter table %I force row level security', tenant_table);
        execute format('create policy tenant on %I to ravenpost_tenant using (organization_id = current_organization())',
            tenant_table);
        execute format('create policy system on %I to ravenpost_system using (true)', tenant_table);
    end loop;
end
$$;

grant select, insert, update, delete on alert_rules to ravenpost_tenant;
grant update (name, config, state, disabled_reason, failures, next_send_at) on channels to ravenpost_tenant;
grant update (acknowledged_at, acknowledged_by, resolved_at, resolved_by, muted_until, tell_at) on alerts to ravenpost_tenant;
grant select, insert on notifications to ravenpost_tenant;
grant update (next_at, state, last_error, claimed_until), delete on notifications to ravenpost_tenant;
grant select, insert, update, delete on alert_rules, notifications to ravenpost_system;

-- What has come to its end long ago is nobody's any more.
create policy maintenance on notifications to ravenpost_maintenance using (state <> 'pending');
create policy maintenance on alerts to ravenpost_maintenance using (resolved_at is not null);
grant select (organization_id, id, created_at, state), delete on notifications to ravenpost_maintenance;
grant select (organization_id, id, resolved_at), delete on alerts to ravenpost_maintenance;
