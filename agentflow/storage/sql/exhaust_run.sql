-- Let a run rest because budgets do not cover it. The caller holds the run alone (lock_run.sql).
-- Parameters: run_id, exhausted (json text: array of {budget, scope, limit, used, reserved, needed})
-- Keeps true: a run that rested already keeps the moment since when.
UPDATE run_state
SET exhausted = CAST(:exhausted AS jsonb), rests_since = coalesce(rests_since, now())
WHERE run_id = :run_id AND state IN ('running')
RETURNING rests_since
