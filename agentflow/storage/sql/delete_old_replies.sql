-- Forget answers that are older than they are kept, the oldest first; what another forgets now is left to it.
-- Parameters: kept_seconds, most
DELETE FROM api_reply WHERE (public_id, idempotency_key) IN (
    SELECT public_id, idempotency_key FROM api_reply WHERE begun_at < now() - make_interval(secs => :kept_seconds)
    ORDER BY begun_at LIMIT :most FOR UPDATE SKIP LOCKED
)
