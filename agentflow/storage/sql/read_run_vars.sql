-- The values of a run's vars.
-- Parameters: run_id
SELECT vars FROM run WHERE id = :run_id
