-- Ask the running attempts of a run (or of one of its steps) to stop; their workers hear it with a heartbeat at the latest.
-- Parameters: run_id, step_id (null for all)
-- Keeps true: of several who ask at once exactly one sees is_new for an attempt (locked before it is read).
WITH running AS (
    SELECT id, NOT is_stop_requested AS is_new FROM attempt
    WHERE run_id = :run_id AND state = 'running' AND (CAST(:step_id AS uuid) IS NULL OR step_id = :step_id)
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE attempt SET is_stop_requested = true FROM running
WHERE attempt.id = running.id
RETURNING attempt.id, running.is_new
