-- The steps of a run as a report has them, in the order of the plan. The reader keeps the hash of a result, not the result.
-- Parameters: run_id
SELECT key, action, state, reason, parent, item, children, choice, result, result IS NOT NULL AS has_result
FROM step WHERE run_id = :run_id ORDER BY position
