-- How far the workers have come, and how far what they have passed was swept for what is lost (PROTOCOLS W11).
--
-- One row, apart from `partitions`: every record holds a row of that table for share, and would wait for each step of
-- this one. A lease says which worker keeps it; whatever two of them write at once is true all the same.
create table sweeper (
    singleton boolean primary key default true check (singleton),
    -- Everything that was accepted up to here was published, and the workers have recorded all that Kafka had of it.
    met_through uuid,
    -- Up to here nothing of it is lost: what had no row anywhere has one.
    swept_through uuid,
    holder uuid,
    held_until timestamptz,
    updated_at timestamptz not null default now()
) with (fillfactor = 50);
insert into sweeper default values;
grant select, update on sweeper to ravenpost_system;
