-- An endpoint's producers may sign with several secrets at once, so that they can rotate.
--
-- endpoints.secret_key stays the newest one, which is all that a replica of the release before knows; the older ones
-- stand here. Each is sealed for its endpoint, so that it can move from there to here as it is.
alter table endpoints
    add column secret_key_id uuid,
    add column secret_key_set_at timestamptz;

create table endpoint_secrets (
    organization_id uuid not null,
    id uuid not null,
    endpoint_id uuid not null,
    secret bytea not null,
    created_at timestamptz not null,
    expires_at timestamptz,
    primary key (organization_id, id),
    foreign key (organization_id, endpoint_id) references endpoints (organization_id, id)
);
create index endpoint_secrets_by_endpoint on endpoint_secrets (endpoint_id);

alter table endpoint_secrets enable row level security;
alter table endpoint_secrets force row level security;
create policy tenant on endpoint_secrets to ravenpost_tenant using (organization_id = current_organization());
create policy system on endpoint_secrets to ravenpost_system using (true);

grant select, insert, update, delete on endpoint_secrets to ravenpost_tenant;
grant select on endpoint_secrets to ravenpost_system;
