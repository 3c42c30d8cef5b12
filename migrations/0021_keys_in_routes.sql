-- A key pair concerns the endpoints that are signed for with one: who remembers routes reads those again and no others.

-- With its owner's rights, as note_route_change; its owner is a member of the roles that may see destinations (0001). For a
-- statement and not for a row: a rotation changes several keys.
create function note_key_change() returns trigger
    language plpgsql security definer set search_path = public, pg_temp
as $$
begin
    insert into route_changes (endpoint_id)
    select distinct d.endpoint_id from destinations d
    where d.organization_id in (select organization_id from changed) and d.signing <> 'hmac' and d.deleted_at is null;
    return null;
end
$$;

drop trigger signing_keys_route on signing_keys;
create trigger signing_keys_route_made after insert on signing_keys referencing new table as changed
    for each statement execute function note_key_change();
create trigger signing_keys_route after update on signing_keys referencing new table as changed
    for each statement execute function note_key_change();

-- What an endpoint has is found, however many of its destinations were deleted: their rows stay.
create index destinations_by_endpoint_and_end on destinations (endpoint_id, deleted_at);
drop index destinations_by_endpoint;
