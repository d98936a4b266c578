-- The steps of a run in the order of its plan.
-- Parameters: run_id
SELECT id, key, action, state, reason, result, choice, attempts FROM step WHERE run_id = :run_id ORDER BY position
