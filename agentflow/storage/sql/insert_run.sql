-- Accept a run, once per (project, idempotency key).
-- Parameters: id, project, plan_fingerprint, vars (json text), idempotency_key, request_sha256, actor, directive, forked_from, forked_at_step
-- Keeps true: of submissions racing under one key exactly one gets a row back; the others wait for its commit and get none.
INSERT INTO run (id, project, plan_fingerprint, vars, idempotency_key, request_sha256, actor, directive, forked_from, forked_at_step)
VALUES (:id, :project, :plan_fingerprint, CAST(:vars AS jsonb), :idempotency_key, :request_sha256, :actor, :directive,
        :forked_from, :forked_at_step)
ON CONFLICT (project, idempotency_key) DO NOTHING
RETURNING created_at
