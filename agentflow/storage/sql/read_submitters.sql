-- Who submitted a run, and those above it whose child it is.
-- Parameters: run_id
SELECT DISTINCT above.actor FROM run
JOIN run AS above ON above.id = run.id OR jsonb_exists(run.ancestors, CAST(above.id AS text))
WHERE run.id = :run_id
