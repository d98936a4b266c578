-- Runs that a maintenance paused, in the order of their ids. A plain read; the verb looks again under the lock.
-- Parameters: after_id (null to begin), limit
SELECT run_id FROM run_state
WHERE state = 'running' AND paused ->> 'scope' = 'maintenance'
  AND (CAST(:after_id AS uuid) IS NULL OR run_id > CAST(:after_id AS uuid))
ORDER BY run_id
LIMIT :limit
