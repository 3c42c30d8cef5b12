-- How long events are kept: those of a day are dropped together, with all that belongs to them (PROTOCOLS D2).
--
-- The bounds are ids and begin days, so that everybody means the same, whatever their clocks say. Of events below
-- expires_before is given up what has waited for a day: whoever replays one afterwards has a day for it. ends_before is
-- what expires_before was a day ago, so that nobody is surprised by a bound that has jumped: of events below it everything
-- is given up. Below kept_from nothing is there any more.
create index expunged_payloads_by_event on expunged_payloads (event_id);
create table retention (
    singleton boolean primary key default true check (singleton),
    expires_before uuid not null default '00000000-0000-0000-0000-000000000000',
    ends_before uuid not null default '00000000-0000-0000-0000-000000000000',
    kept_from uuid not null default '00000000-0000-0000-0000-000000000000',
    -- When expires_before was moved on.
    moved_at timestamptz not null default '-infinity'
);
insert into retention default values;
grant select on retention to ravenpost_system, ravenpost_maintenance;
grant update (expires_before, ends_before, moved_at) on retention to ravenpost_maintenance;

-- The oldest day that there are partitions of.
create function oldest_day() returns date
    language sql stable
    return (
        select min(to_date(right(c.relname::text, 8), 'YYYYMMDD')) from pg_inherits i
        join pg_class c on c.oid = i.inhrelid where i.inhparent = 'events'::regclass
    );

-- Drops a day. Detaching locks whole tables for a moment, and whoever waits for such a lock makes everybody else wait behind
-- him: so the day's own tables are locked first, which hardly anybody uses, and it gives up soon and is tried again. Its
-- caller looks afterwards, in the same transaction, whether something waits for an event of that day: nobody can have come
-- since.
create function drop_day(day date) returns void
    language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '50ms'
as $$
declare
    bound uuid := uuid_v7_floor((day + 1)::timestamp at time zone 'UTC');
    suffix text := to_char(day, '"_"YYYYMMDD');
    parent text;
begin
    update retention set kept_from = bound where bound <= ends_before;
    if not found then
        raise exception 'the events of % are still kept', day;
    end if;
    foreach parent in array array['events', 'event_headers', 'deliveries'] loop
        execute format('lock table %I in access exclusive mode', parent || suffix);
    end loop;
    foreach parent in array array['events', 'event_headers', 'deliveries'] loop
        execute format('alter table %I detach partition %I', parent, parent || suffix);
        execute format('drop table %I', parent || suffix);
    end loop;
end
$$;
revoke execute on function drop_day from public;
grant execute on function drop_day to ravenpost_maintenance;

-- What is left to remove when a day is gone. A row of the schedule is none of it, unless somebody has made one by hand.
grant select (swept_through) on sweeper to ravenpost_maintenance;
create policy maintenance on dead_letters to ravenpost_maintenance
    using (event_id < (select kept_from from retention));
grant select (event_id, destination_id), delete on dead_letters to ravenpost_maintenance;
create policy maintenance on expunged_payloads to ravenpost_maintenance
    using (event_id < (select kept_from from retention));
grant select (organization_id, event_id), delete on expunged_payloads to ravenpost_maintenance;
-- Last, since it locks a hot table for the moment until the commit.
grant select (event_id, destination_id), delete on scheduled_deliveries to ravenpost_maintenance;
drop policy maintenance on scheduled_deliveries;
create policy maintenance on scheduled_deliveries for select to ravenpost_maintenance using (replay_job_id is not null);
create policy retention on scheduled_deliveries for select to ravenpost_maintenance
    using (event_id < (select ends_before from retention));
create policy retention_removal on scheduled_deliveries for delete to ravenpost_maintenance
    using (event_id < (select kept_from from retention));
