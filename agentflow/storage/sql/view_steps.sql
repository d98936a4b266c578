-- The steps of a run in the order of its plan; those that foreachs made come last, in the order in which they were made.
-- Parameters: run_id
SELECT id, key, action, state, reason, result, choice, attempts, children, parent, item
FROM step WHERE run_id = :run_id ORDER BY position
