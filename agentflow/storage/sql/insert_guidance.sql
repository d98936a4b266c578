-- Keep for a run that somebody gave guidance for its model calls, or for those of one step. The caller holds the run.
-- Parameters: run_id, step_key (null for whichever calls next), sha256, bytes, actor
INSERT INTO guidance (run_id, step_key, sha256, bytes, actor) VALUES (:run_id, :step_key, :sha256, :bytes, :actor)
RETURNING id
