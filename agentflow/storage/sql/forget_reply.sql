-- Let go of an idempotency key whose request came to nothing. What it keeps true: no answer that was given is forgotten.
-- Parameters: public_id, idempotency_key, begun_at
DELETE FROM api_reply
WHERE public_id = :public_id AND idempotency_key = :idempotency_key AND begun_at = :begun_at AND status IS NULL
