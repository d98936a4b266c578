-- The first position behind all steps of a run.
-- Parameters: run_id
SELECT coalesce(max(position) + 1, 0) FROM step WHERE run_id = :run_id
