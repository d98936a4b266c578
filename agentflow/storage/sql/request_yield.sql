-- Ask the running attempts of a run to end their work and give their steps back, because the run was paused hard.
-- Parameters: run_id
-- Keeps true: rows are locked in id order. The caller holds the run alone, so that none is claimed meanwhile.
WITH running AS (
    SELECT id FROM attempt WHERE run_id = :run_id AND state = 'running' ORDER BY id FOR NO KEY UPDATE
)
UPDATE attempt SET is_yield_requested = true FROM running
WHERE attempt.id = running.id
RETURNING attempt.id
