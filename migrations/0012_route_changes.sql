-- Workers remember where an endpoint's events go, and ask this table what has changed since they asked last. Not by LISTEN:
-- an event must not be sent by a route that is older than the event, so they must know that there is no news, too.

-- A row for each change, in the transaction that makes it: what a snapshot did not see has a transaction id at or above
-- that snapshot's lowest running one. `endpoint_id` is null for a change that concerns many.
create table route_changes (
    xid xid8 not null default pg_current_xact_id(),
    endpoint_id uuid,
    changed_at timestamptz not null default now()
);
create index route_changes_xid on route_changes (xid);

alter table route_changes enable row level security;
create policy system on route_changes to ravenpost_system using (true);
-- Who has not asked for so long believes nothing that it remembers.
create policy maintenance on route_changes to ravenpost_maintenance using (changed_at <= now() - interval '1 hour');
grant select on route_changes to ravenpost_system;
grant select, delete on route_changes to ravenpost_maintenance;

-- With its owner's rights: who changes an endpoint must not be able to write here by hand.
create function note_route_change() returns trigger
    language plpgsql security definer set search_path = public, pg_temp
as $$
begin
    -- The column that names the endpoint is the trigger's argument.
    insert into route_changes (endpoint_id) values ((to_jsonb(coalesce(new, old)) ->> tg_argv[0])::uuid);
    return null;
end
$$;

create trigger endpoints_route_made after insert or delete on endpoints
    for each row execute function note_route_change('id');
create trigger endpoints_route after update on endpoints
    for each row when ((old.name, old.status) is distinct from (new.name, new.status))
    execute function note_route_change('id');
-- A destination's former secrets change only together with its secret.
create trigger destinations_route after insert or update or delete on destinations
    for each row execute function note_route_change('endpoint_id');
create trigger signing_keys_route after insert or update on signing_keys
    for each row execute function note_route_change();

-- A busy table that stays small: by the default of a fifth it would be cleaned late when it has once been large.
alter table scheduled_deliveries set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
