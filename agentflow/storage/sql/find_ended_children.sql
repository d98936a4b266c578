-- Child runs that have ended, and whose parents' steps still wait for them: what a crash left. A plain read.
-- Parameters: limit
SELECT child.run_id FROM step
JOIN run_state ON run_state.run_id = step.run_id AND run_state.state = 'running'
JOIN run_state AS child ON child.run_id = CAST(step.reason -> 'detail' ->> 'run' AS uuid)
WHERE step.state = 'held' AND step.action = 'run' AND child.state IN ('completed', 'partial', 'failed', 'cancelled')
  AND child.round >= CAST(step.reason -> 'detail' ->> 'round' AS integer)
LIMIT :limit
