-- Ask the running attempts of a run (or of one of its steps) to stop; their workers hear it with the next heartbeat at the latest.
-- Parameters: run_id, step_id (null for all)
UPDATE attempt SET is_stop_requested = true
WHERE run_id = :run_id AND state = 'running' AND (CAST(:step_id AS uuid) IS NULL OR step_id = :step_id)
RETURNING id
