-- A table that is small now may fill within moments: the schedule when a destination fails, a day when it begins. Postgres
-- plans by the size that it found a table to have, keeps plans until it counts again, and for one that it found empty it
-- plans to read all of it. So small sizes are forgotten: it takes such a table to be as large as its file, and at least ten
-- pages, as it does with a new one. Whoever is just counting one is not waited for.
create function expect_growth() returns integer
    language plpgsql security definer set search_path = public, pg_temp
as $$
declare
    small record;
    forgotten integer := 0;
begin
    for small in
        select oid, relname from pg_class
        where relnamespace = 'public'::regnamespace and relkind = 'r' and pg_get_userbyid(relowner) = current_user
            and reltuples between 0 and 1000
    loop
        begin
            execute format('lock table %I in share update exclusive mode nowait', small.relname);
            -- It may have been counted since.
            perform pg_clear_relation_stats('public', relname) from pg_class
                where oid = small.oid and reltuples between 0 and 1000;
            if found then
                forgotten := forgotten + 1;
            end if;
        exception when lock_not_available or undefined_table then
            null;
        end;
    end loop;
    return forgotten;
end
$$;
revoke execute on function expect_growth from public;
grant execute on function expect_growth to ravenpost_maintenance;
