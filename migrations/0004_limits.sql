-- What an endpoint lets in and answers, and news of its configuration for every ingress replica.

-- Null means: as the operator has set it (rate), any (content types), the ordinary 202 (answer).
alter table organizations add column rate_limit jsonb;
alter table endpoints
    add column rate_limit jsonb,
    add column content_types jsonb,
    add column answer jsonb;

-- Ingress listens on this channel and forgets what it remembers of the endpoint. The payload is `endpoint:<token>`, or
-- `everything`; it is never stored, and only sessions of the system itself can listen.
create function notify_configuration() returns trigger
    language plpgsql set search_path = public, pg_temp
as $$
begin
    case tg_table_name
        when 'endpoints' then
            perform pg_notify('ravenpost_configuration', 'endpoint:' || coalesce(new.token, old.token));
            if new.token is distinct from old.token and old.token is not null then
                perform pg_notify('ravenpost_configuration', 'endpoint:' || old.token);
            end if;
        when 'organizations' then
            perform pg_notify('ravenpost_configuration', 'everything');
    end case;
    return null;
end
$$;

create trigger endpoints_notify after insert or update or delete on endpoints
    for each row execute function notify_configuration();
-- Only what ingress reads of an organization; a new one has no endpoints yet. It concerns all of its endpoints, which a
-- payload can't hold.
create trigger organizations_notify after update on organizations
    for each row when (old.rate_limit is distinct from new.rate_limit) execute function notify_configuration();
