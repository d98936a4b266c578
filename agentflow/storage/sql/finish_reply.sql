-- Keep the answer to a request that was begun. What it keeps true: nobody else's answer is written over.
-- Parameters: public_id, idempotency_key, begun_at, status, location (null: none), body (null: not to be kept)
UPDATE api_reply SET status = :status, location = :location, body = :body
WHERE public_id = :public_id AND idempotency_key = :idempotency_key AND begun_at = :begun_at AND status IS NULL
