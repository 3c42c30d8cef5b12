-- Since when there was the dead letter that a replay job has taken up: cancelled before it is sent, it is as old again.
-- Beside died_of (0008); null for what was scheduled before.
alter table scheduled_deliveries add column died_at timestamptz;
