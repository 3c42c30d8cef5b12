-- What a receiver has answered to a payload, and why a filter could not decide on it, may repeat parts of it: whoever
-- expunges the payload takes them away.
grant update (response_body_snippet, filter_error, updated_at) on deliveries to ravenpost_tenant;
