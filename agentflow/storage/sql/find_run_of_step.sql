-- The run that a step belongs to.
-- Parameters: step_id
SELECT run_id FROM step WHERE id = :step_id
