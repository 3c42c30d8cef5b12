-- What nobody needs any more goes, by the maintenance role, which now sees that and nothing else: whatever a statement
-- of its says, it reaches no row that still counts. docs/operations.md tells how long each is kept.

-- What is deleted stays in these tables for ever: only what is still to be emptied is looked at. The other tables hold
-- a few rows for each owner, and none for long.
create index destinations_to_empty on destinations (deleted_at) where deleted_at is not null and signing_secret <> '';
create index endpoints_to_empty on endpoints (deleted_at) where deleted_at is not null and secret_key is not null;
create index replay_jobs_finished on replay_jobs (finished_at) where finished_at is not null;

-- Last, since they lock hot tables for the moment until the commit.
do $$
declare
    one record;
begin
    for one in select * from (values
        ('destinations', 'deleted_at is not null'),
        ('endpoints', 'deleted_at is not null'),
        ('destination_state', 'exists (select from destinations d
            where d.organization_id = destination_state.organization_id and d.id = destination_id
                and d.deleted_at is not null)'),
        ('destination_secrets', 'expires_at <= now() or exists (select from destinations d
            where d.organization_id = destination_secrets.organization_id and d.id = destination_id
                and d.deleted_at is not null)'),
        ('endpoint_secrets', 'expires_at <= now() or exists (select from endpoints e
            where e.organization_id = endpoint_secrets.organization_id and e.id = endpoint_id
                and e.deleted_at is not null)'),
        ('signing_keys', 'expires_at <= now()'),
        ('replay_jobs', $q$state in ('done', 'failed', 'cancelled')$q$),
        -- What says that such a job is not at its end after all.
        ('replay_job_destinations', $q$phase <> 'ended'$q$),
        ('scheduled_deliveries', 'replay_job_id is not null')
    ) as policies (owned, condition)
    loop
        execute format('create policy maintenance on %I to ravenpost_maintenance using (%s)', one.owned, one.condition);
    end loop;
end
$$;

-- Sealed columns only where a statement has to ask whether they are empty already.
grant select (organization_id, id, deleted_at, signing_secret), update (signing_secret, headers, authentication, tls)
    on destinations to ravenpost_maintenance;
grant select (organization_id, id, deleted_at, secret_key), update (secret_key) on endpoints to ravenpost_maintenance;
grant select (organization_id, destination_id), delete on destination_state to ravenpost_maintenance;
grant select (organization_id, id, destination_id, expires_at), delete on destination_secrets to ravenpost_maintenance;
grant select (organization_id, id, endpoint_id, expires_at), delete on endpoint_secrets to ravenpost_maintenance;
grant select (organization_id, id, expires_at), delete on signing_keys to ravenpost_maintenance;
grant select (organization_id, id, state, finished_at), delete on replay_jobs to ravenpost_maintenance;
grant select (organization_id, job_id, phase) on replay_job_destinations to ravenpost_maintenance;
grant select (replay_job_id) on scheduled_deliveries to ravenpost_maintenance;
