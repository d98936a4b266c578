-- Steps that wait for a child run which is yet to be made, or to be taken up again. A plain read; the verb looks again.
-- Parameters: limit
SELECT step.id FROM step JOIN run_state ON run_state.run_id = step.run_id
WHERE step.state = 'held' AND step.action = 'run' AND step.not_before <= now()
  AND run_state.state = 'running' AND run_state.rests_since IS NULL
ORDER BY step.not_before
LIMIT :limit
