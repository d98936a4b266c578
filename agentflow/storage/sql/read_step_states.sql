-- The states of a run's steps.
-- Parameters: run_id
SELECT key, state FROM step WHERE run_id = :run_id
