-- Begin to answer under an idempotency key; no row comes back where the key stands for a request already. Of two at
-- once one gets the row. What it keeps true: a key stands for one request for as long as its answer is kept.
-- Parameters: public_id, idempotency_key, request_sha256, kept_seconds
INSERT INTO api_reply (public_id, idempotency_key, request_sha256)
VALUES (:public_id, :idempotency_key, :request_sha256)
ON CONFLICT (public_id, idempotency_key) DO UPDATE
SET request_sha256 = EXCLUDED.request_sha256, begun_at = now(), status = NULL, location = NULL, body = NULL
WHERE api_reply.begun_at < now() - make_interval(secs => :kept_seconds)
RETURNING begun_at
