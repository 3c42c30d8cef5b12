-- $1 events that may be lost, $2 and $3 the smallest and the largest of them, $4 and $5 what those that have not met their
-- destinations are for
with locked as (
    select id, organization_id, endpoint_id, pending from events
    where id = any ($1) and id between $2 and $3 and status = 'PENDING'
    order by id for update
), wanted as (
    select w.* from unnest($4::uuid[], $5::uuid[]) as w (event_id, destination_id)
), target as (
    select l.id as event_id, l.organization_id, l.endpoint_id, p.destination_id
    from locked l cross join lateral unnest(l.pending) as p (destination_id)
    union
    select l.id, l.organization_id, l.endpoint_id, w.destination_id
    from locked l join wanted w on w.event_id = l.id
    where l.pending is null
), lost as (
    select t.* from target t
    where not exists (select from scheduled_deliveries s
            where s.event_id = t.event_id and s.destination_id = t.destination_id)
        and not exists (select from dead_letters l
            where l.event_id = t.event_id and l.destination_id = t.destination_id)
        and not exists (select from deliveries d where d.event_id = t.event_id and d.event_id between $2 and $3
            and d.destination_id = t.destination_id and d.outcome = 'success')
), scheduled as (
    -- The attempt after the last one that is known, of the last run that is known.
    insert into scheduled_deliveries
        (event_id, destination_id, organization_id, endpoint_id, due_at, run, attempt_number, reason)
    select l.event_id, l.destination_id, l.organization_id, l.endpoint_id, now(), coalesce(a.run, 0),
        coalesce(a.attempt_number, 0) + 1, 'parked'
    from lost l left join lateral (
        select d.run, d.attempt_number from deliveries d
        where d.event_id = l.event_id and d.event_id between $2 and $3 and d.destination_id = l.destination_id
        order by d.run desc, d.attempt_number desc limit 1) as a on true
    on conflict (event_id, destination_id) do nothing
    returning event_id, destination_id
), routed as (
    -- From now on it has met its destinations: its message, should it come after all, finds it so.
    update events e
    set pending = n.pending, updated_at = now(),
        status = case when cardinality(n.pending) > 0 then 'PENDING' else 'DROPPED' end
    from (
        select l.id, array(select w.destination_id from wanted w where w.event_id = l.id) as pending
        from locked l where l.pending is null
    ) as n
    where e.id = n.id and e.id between $2 and $3
    returning e.id, e.status
)
select array(select event_id from scheduled order by event_id, destination_id) as "events!",
    array(select destination_id from scheduled order by event_id, destination_id) as "destinations!",
    array(select id from routed where status = 'DROPPED') as "dropped!"
