-- The run that holds an idempotency key.
-- Parameters: project, idempotency_key
SELECT id, request_sha256, plan_fingerprint FROM run WHERE project = :project AND idempotency_key = :idempotency_key
