-- What stands under an idempotency key. A plain read.
-- Parameters: public_id, idempotency_key
SELECT request_sha256, begun_at, status, location, body FROM api_reply
WHERE public_id = :public_id AND idempotency_key = :idempotency_key
