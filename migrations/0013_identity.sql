-- People, their membership of organizations, invitations; what becomes of API keys; and news of all that for every
-- replica that remembers who may do what.

-- A person, as an OpenID Connect issuer knows them. The row belongs to nobody but the person; an organization sees the
-- rows of its members.
create table users (
    id uuid primary key,
    issuer text not null,
    subject text not null,
    -- As the issuer last told, and only what it has verified.
    email text,
    name text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint users_subject_key unique (issuer, subject)
);

create table memberships (
    organization_id uuid not null references organizations (id),
    user_id uuid not null references users (id),
    role text not null check (role in ('owner', 'admin', 'developer', 'viewer')),
    created_at timestamptz not null,
    updated_at timestamptz not null,
    primary key (organization_id, user_id)
);
create index memberships_by_user on memberships (user_id, organization_id);

-- The token is known to whoever reads the mail. It stands here sealed until the mail has left, so that the notifier can
-- write it, and as a hash.
create table invitations (
    organization_id uuid not null references organizations (id),
    id uuid not null,
    email text not null,
    role text not null check (role in ('owner', 'admin', 'developer', 'viewer')),
    token_hash bytea not null,
    sealed_token bytea,
    invited_by uuid references users (id),
    created_at timestamptz not null,
    expires_at timestamptz not null,
    accepted_at timestamptz,
    accepted_by uuid references users (id),
    revoked_at timestamptz,
    -- When it is mailed next, how often that was tried, when it left, and why it did not.
    send_at timestamptz not null,
    attempts integer not null default 0,
    sent_at timestamptz,
    send_error text,
    primary key (organization_id, id),
    constraint invitations_id_key unique (id),
    constraint invitations_token_key unique (token_hash)
);
-- One open invitation for an address.
create unique index invitations_open on invitations (organization_id, lower(email))
    where accepted_at is null and revoked_at is null;
create index invitations_to_send on invitations (send_at) where sealed_token is not null;

-- Null: as before this migration, or made by the operator. A revoked key stays, so that what it did can be told.
alter table api_keys
    add column created_by uuid references users (id),
    add column last_used_at timestamptz,
    add column revoked_at timestamptz;

-- The last owner can't go, and can't become anything else. The organization's row is locked first: of two owners who go
-- at once the second one waits for the first, and then is the last.
create function keep_an_owner() returns trigger
    language plpgsql set search_path = public, pg_temp
as $$
begin
    perform from organizations where id = old.organization_id for no key update;
    if not exists (select from memberships where organization_id = old.organization_id and role = 'owner') then
        raise exception 'an organization keeps an owner'
            using errcode = 'restrict_violation', constraint = 'memberships_last_owner', table = 'memberships';
    end if;
    return null;
end
$$;
create trigger memberships_keep_an_owner after delete on memberships
    for each row when (old.role = 'owner') execute function keep_an_owner();
create trigger memberships_keep_an_owner_changed after update on memberships
    for each row when (old.role = 'owner' and new.role <> 'owner') execute function keep_an_owner();

-- Whoever remembers a key or a person's memberships listens on `ravenpost_access`: `key:<prefix>`, `user:<id>`.
create function notify_access() returns trigger
    language plpgsql set search_path = public, pg_temp
as $$
begin
    case tg_table_name
        when 'api_keys' then perform pg_notify('ravenpost_access', 'key:' || coalesce(new.prefix, old.prefix));
        when 'memberships' then perform pg_notify('ravenpost_access', 'user:' || coalesce(new.user_id, old.user_id));
    end case;
    return null;
end
$$;
create trigger api_keys_notify after insert or delete on api_keys
    for each row execute function notify_access();
-- Not of its use, which is noted all the time.
create trigger api_keys_notify_changed after update on api_keys
    for each row when ((old.prefix, old.hash, old.scopes, old.expires_at, old.revoked_at)
        is distinct from (new.prefix, new.hash, new.scopes, new.expires_at, new.revoked_at))
    execute function notify_access();
create trigger memberships_notify after insert or update or delete on memberships
    for each row execute function notify_access();

do $$
declare
    tenant_table text;
begin
    foreach tenant_table in array array['memberships', 'invitations'] loop
        execute format('alter table %I enable row level security', tenant_table);
        execute format('alter table %I force row level security', tenant_table);
        execute format('create policy tenant on %I to ravenpost_tenant using (organization_id = current_organization())',
            tenant_table);
        execute format('create policy system on %I to ravenpost_system using (true)', tenant_table);
    end loop;
end
$$;
alter table users enable row level security;
alter table users force row level security;
-- Its members, whoever made a key of it, and whoever invited somebody: they may have left since. What these tables show
-- is the organization's own by their policies.
create policy tenant on users to ravenpost_tenant using (
    exists (select from memberships m where m.user_id = users.id)
    or exists (select from api_keys k where k.created_by = users.id)
    or exists (select from invitations i where i.invited_by = users.id));
create policy system on users to ravenpost_system using (true);
create index api_keys_by_creator on api_keys (created_by) where created_by is not null;
create index invitations_by_inviter on invitations (invited_by) where invited_by is not null;

grant select (id, email, name) on users to ravenpost_tenant;
grant select, update (role, updated_at), delete on memberships to ravenpost_tenant;
grant select, insert, update (sealed_token, revoked_at) on invitations to ravenpost_tenant;
grant insert, update (revoked_at) on api_keys to ravenpost_tenant;
grant update (name, updated_at) on organizations to ravenpost_tenant;
grant select, insert, update, delete on users, memberships, invitations to ravenpost_system;
