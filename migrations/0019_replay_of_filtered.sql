-- A replay job may schedule what its destination did not want: cancelled before it is sent, that is so again. Beside died_of
-- (0008), which is the same for what was dead.
alter table scheduled_deliveries add column was_filtered boolean not null default false;
