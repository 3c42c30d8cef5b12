-- no-transaction
-- Which request it is stands for whose it is: `carry_out` and the policy of 0017 ask for it alone.
create unique index concurrently if not exists idempotency_keys_of_request on idempotency_keys (request_id);
