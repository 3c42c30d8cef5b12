-- What is sent to a destination besides the event: headers, credentials, a TLS profile, and more than one signature.
--
-- Each of headers, authentication and tls may hold a credential, so each is sealed as a whole, for its destination.
-- A replica of the release before ignores them all: it goes on to sign with destinations.signing_secret alone.
alter table destinations
    add column headers bytea,
    add column authentication bytea,
    add column tls bytea,
    -- Within timeout_ms; null means as the operator has set it.
    add column first_byte_timeout_ms integer,
    add column signing text not null default 'hmac' check (signing in ('hmac', 'ed25519', 'both'));

-- Former secrets of a destination, with which its deliveries are signed as well until they expire. Each is sealed for
-- its destination, so that it moves from there to here as it is.
create table destination_secrets (
    organization_id uuid not null,
    id uuid not null,
    destination_id uuid not null,
    secret bytea not null,
    retired_at timestamptz not null,
    expires_at timestamptz not null,
    primary key (organization_id, id),
    foreign key (organization_id, destination_id) references destinations (organization_id, id)
);
create index destination_secrets_by_destination on destination_secrets (destination_id, expires_at);

-- Key pairs of an organization (Ed25519). A key is published from created_at, signs from signs_from, and does both
-- until expires_at; null means until another one takes its place. docs/decisions/0023 tells why.
create table signing_keys (
    organization_id uuid not null references organizations (id),
    id uuid not null,
    public_key bytea not null check (length(public_key) = 32),
    -- Sealed for the key's own id.
    private_key bytea not null,
    created_at timestamptz not null,
    signs_from timestamptz not null,
    expires_at timestamptz,
    primary key (organization_id, id)
);
-- One successor at a time, whoever makes it.
create unique index signing_keys_newest on signing_keys (organization_id) where expires_at is null;

do $$
declare
    tenant_table text;
begin
    foreach tenant_table in array array['destination_secrets', 'signing_keys'] loop
        execute format('alter table %I enable row level security', tenant_table);
        execute format('alter table %I force row level security', tenant_table);
        execute format('create policy tenant on %I to ravenpost_tenant using (organization_id = current_organization())',
            tenant_table);
        execute format('create policy system on %I to ravenpost_system using (true)', tenant_table);
    end loop;
end
$$;

grant select, insert, update, delete on destination_secrets, signing_keys to ravenpost_tenant;
grant select on destination_secrets, signing_keys to ravenpost_system;

-- Where the time of an attempt went, in microseconds, and what was connected to. Null: not known, or not needed.
alter table deliveries
    add column queue_us bigint,
    add column dns_us integer,
    add column connect_us integer,
    add column tls_us integer,
    add column first_byte_us integer,
    add column connected_address text;
