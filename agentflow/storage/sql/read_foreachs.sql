-- The foreachs of a run.
-- Parameters: run_id
SELECT key FROM step WHERE run_id = :run_id AND action = 'foreach'
