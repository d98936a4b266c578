-- Runs that a maintenance has yet to pause, in the order of their ids: those that go on, and with is_hard those that
-- were paused softly. A plain read; the verb looks again under the lock.
-- Parameters: is_hard, after_id (null to begin), limit
SELECT run_id FROM run_state
WHERE state = 'running' AND (CAST(:after_id AS uuid) IS NULL OR run_id > CAST(:after_id AS uuid))
  AND (paused IS NULL OR (CAST(:is_hard AS boolean) AND NOT CAST(paused ->> 'is_hard' AS boolean)))
ORDER BY run_id
LIMIT :limit
