-- Let a run go on that rested because budgets were exhausted. The caller holds the run alone (lock_run.sql).
-- Parameters: run_id
-- Keeps true: the time in which it rested is no active time.
UPDATE run_state
SET exhausted = NULL, rests_since = NULL,
    rested_seconds = rested_seconds + extract(epoch FROM now() - coalesce(rests_since, now()))
WHERE run_id = :run_id AND state IN ('running') AND exhausted IS NOT NULL
RETURNING run_id
