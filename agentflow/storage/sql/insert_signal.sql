-- Keep a signal that was sent to a run. The caller holds the run alone.
-- Parameters: run_id, name, data (json text or null), actor, taken_by (the step whose wait it ends, or null)
INSERT INTO signal (run_id, name, data, actor, taken_by)
VALUES (:run_id, :name, CAST(:data AS jsonb), :actor, :taken_by)
RETURNING id
