-- Accept a run, once per (project, idempotency key); a child run once per its id.
-- Parameters: id, project, plan_fingerprint, vars (json text), idempotency_key, request_sha256, actor, directive, forked_from, forked_at_step,
-- parent_run, parent_step, ancestors (json text or null), child_plans (json text or null), mode (of a child run its parent's)
-- Keeps true: of submissions racing under one key exactly one gets a row back; the others wait for its commit and get none.
INSERT INTO run (id, project, plan_fingerprint, vars, idempotency_key, request_sha256, actor, directive, forked_from, forked_at_step,
                 parent_run, parent_step, ancestors, child_plans, mode)
VALUES (:id, :project, :plan_fingerprint, CAST(:vars AS jsonb), :idempotency_key, :request_sha256, :actor, :directive,
        :forked_from, :forked_at_step, :parent_run, :parent_step, CAST(:ancestors AS jsonb), CAST(:child_plans AS jsonb),
        coalesce((SELECT parent.mode FROM run AS parent WHERE parent.id = :parent_run), :mode))
ON CONFLICT DO NOTHING
RETURNING created_at
