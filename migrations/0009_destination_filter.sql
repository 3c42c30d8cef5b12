-- What a destination wants, and which destinations did not want an event.
--
-- destinations.filter is core's Filter as JSON; null wants everything. filter_error tells of the last event for which
-- its expression failed: {message, event_id, failed_at}; the worker writes it at most once a minute.
alter table destinations
    add column filter jsonb,
    add column filter_error jsonb;

-- One more set beside pending, delivered and dead.
alter table events add column filtered uuid[] not null default '{}';
grant update (filtered) on events to ravenpost_tenant;

-- Why the filter let an attempt's event through without having been able to decide.
alter table deliveries add column filter_error text;

-- Somebody has named the destination: its filter is not asked.
alter table scheduled_deliveries add column unfiltered boolean not null default false;
