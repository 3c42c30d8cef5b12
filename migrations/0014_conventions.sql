-- What the API's conventions stand on: the audit log, replies that are remembered by Idempotency-Key, and versions of
-- what two people may edit at once.

-- The end of each organization's chain. Whoever adds to the chain holds this row for a moment; nothing else waits.
create table audit_heads (
    organization_id uuid primary key references organizations (id),
    sequence bigint not null default 0,
    hash bytea not null default decode(repeat('00', 32), 'hex')
) with (fillfactor = 80);

-- Who changed what. `json`, not `jsonb`: the hash is of the text, which has to stay as it was written.
create table audit_log (
    organization_id uuid not null references organizations (id),
    sequence bigint not null,
    at timestamptz not null,
    actor_type text not null check (actor_type in ('api_key', 'user', 'operator', 'system')),
    actor_id uuid,
    address text,
    action text not null,
    resource_id uuid,
    before json,
    after json,
    hash bytea not null,
    primary key (organization_id, sequence)
);
create index audit_log_by_resource on audit_log (organization_id, resource_id, sequence);
create index audit_log_by_actor on audit_log (organization_id, actor_id, sequence);
create index audit_log_by_action on audit_log (organization_id, action, sequence);

-- A field as it is hashed: its length in bytes, four of them, then itself in UTF-8; -1 for none. So no two rows read alike.
create function audit_field(field text) returns bytea
    language sql immutable parallel safe
    return case when field is null then int4send(-1)
        else int4send(octet_length(convert_to(field, 'UTF8'))) || convert_to(field, 'UTF8') end;

-- Adds a row to an organization's chain, within the caller's transaction and with the caller's rights.
-- `ravenpost_core::audit` has the same hash, to verify by.
create function append_audit(organization uuid, at timestamptz, actor_type text, actor_id uuid, address text,
    action text, resource_id uuid, before json, after json) returns bigint
    language plpgsql set search_path = public, pg_temp
as $$
declare
    head audit_heads;
    place bigint;
    link bytea;
begin
    insert into audit_heads (organization_id) values (organization) on conflict do nothing;
    select * into strict head from audit_heads h where h.organization_id = organization for update;
    place := head.sequence + 1;
    link := sha256(head.hash || audit_field(organization::text) || audit_field(place::text)
        || audit_field((extract(epoch from at) * 1000000)::bigint::text)
        || audit_field(actor_type) || audit_field(actor_id::text) || audit_field(address)
        || audit_field(action) || audit_field(resource_id::text) || audit_field(before::text)
        || audit_field(after::text));
    insert into audit_log values (organization, place, at, actor_type, actor_id, address, action, resource_id, before,
        after, link);
    update audit_heads h set sequence = place, hash = link where h.organization_id = organization;
    return place;
end
$$;
revoke execute on function append_audit from public;
grant execute on function append_audit to ravenpost_tenant, ravenpost_system;

-- What was answered to a POST, sealed for its organization, until it is forgotten.
create table idempotency_keys (
    organization_id uuid not null references organizations (id),
    -- Whose key it is: what one caller was shown, another one is not.
    actor_id uuid not null,
    key text not null check (octet_length(key) between 1 and 255),
    fingerprint bytea not null,
    -- The request that carries it out; another one may take it over when `locked_until` has passed.
    request_id uuid not null,
    locked_until timestamptz not null,
    -- Set in the transaction that does what was asked for: from then on nobody does it again.
    carried_out boolean not null default false,
    reply bytea,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    primary key (organization_id, actor_id, key)
);
create index idempotency_keys_expired on idempotency_keys (expires_at);
create unique index idempotency_keys_by_request on idempotency_keys (organization_id, request_id);

do $$
declare
    tenant_table text;
begin
    foreach tenant_table in array array['audit_heads', 'audit_log', 'idempotency_keys'] loop
        execute format('alter table %I enable row level security', tenant_table);
        execute format('alter table %I force row level security', tenant_table);
        execute format('create policy tenant on %I to ravenpost_tenant using (organization_id = current_organization())',
            tenant_table);
        execute format('create policy system on %I to ravenpost_system using (true)', tenant_table);
    end loop;
end
$$;

-- Nobody changes or removes a row of the log. The head moves with each row, and only that.
grant select, insert on audit_log to ravenpost_tenant, ravenpost_system;
grant select, insert, update (sequence, hash) on audit_heads to ravenpost_tenant, ravenpost_system;
grant select, insert, update, delete on idempotency_keys to ravenpost_tenant;
create policy maintenance on idempotency_keys to ravenpost_maintenance using (expires_at <= now());
grant select (organization_id, actor_id, key, expires_at), delete on idempotency_keys to ravenpost_maintenance;

-- Which version of a row somebody has seen, for If-Match. It rises with what a person may have seen and changed; how a
-- destination fares is not part of it.
alter table endpoints add column version bigint not null default 1;
alter table destinations add column version bigint not null default 1;

create function raise_version() returns trigger
    language plpgsql
as $$
begin
    new.version := old.version + 1;
    return new;
end
$$;
create trigger raise_version before update of name, token, verification, secret_key, max_body_bytes, status, rate_limit,
    content_types, answer, deleted_at on endpoints for each row execute function raise_version();
create trigger raise_version before update of name, url, retry_policy, timeout_ms, status, signing_secret, headers,
    authentication, tls, first_byte_timeout_ms, signing, filter, limits, disable_after_ms, replay_on_recovery,
    disabled_reason, deleted_at on destinations for each row execute function raise_version();
