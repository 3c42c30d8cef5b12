-- A producer's retry is recognised by the id that it repeats (PROTOCOLS I7). Swept in small steps once expired: rows of
-- one key may lie days apart, so the table can't be partitioned by time.
create table ingest_dedup (
    endpoint_id uuid not null,
    -- The first 16 bytes of SHA-256 over the producer's id and where it stood.
    key bytea not null check (length(key) = 16),
    event_id uuid not null,
    body_sha256 bytea not null,
    expires_at timestamptz not null,
    primary key (endpoint_id, key)
);
create index ingest_dedup_expiry on ingest_dedup (expires_at);
grant select, insert, update, delete on ingest_dedup to ravenpost_system;
