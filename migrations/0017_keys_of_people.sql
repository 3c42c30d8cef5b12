-- A person's own requests, which are about no organization yet or not any more, have keys too. They belong to the person,
-- whose id then stands in the place of an organization's.
alter table idempotency_keys drop constraint idempotency_keys_organization_id_fkey;

-- The request that the current transaction carries out; null when it holds no key.
create function current_request() returns uuid
    language sql stable parallel safe
    return nullif(current_setting('ravenpost.request_id', true), '')::uuid;
alter policy tenant on idempotency_keys
    using (organization_id = current_organization() or request_id = current_request());

-- The request is carried out with the caller's commit, and by nobody else afterwards. Fails when another request with the
-- same key has taken over.
create function carry_out(request uuid) returns void
    language plpgsql set search_path = public, pg_temp
as $$
begin
    update idempotency_keys set carried_out = true where request_id = request;
    if request is not null and not found then
        raise exception 'another request with the same key has taken over' using errcode = 'RP001';
    end if;
end
$$;
revoke execute on function carry_out from public;
grant execute on function carry_out to ravenpost_tenant, ravenpost_system;
grant select (request_id), update (carried_out) on idempotency_keys to ravenpost_system;
