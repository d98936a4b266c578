-- Runs that have not ended although nothing of them is open: their last settle committed and its process died before
-- could end the run. Not one below which a child run is open. A plain read; finalize looks again under the lock.
-- Parameters: limit
-- By lot: runs that cannot be ended now must not keep the others out of sight.
SELECT run_id FROM run_state
WHERE state NOT IN ('completed', 'partial', 'failed', 'cancelled')
  AND (open_sinks = 0 OR state IN ('failing', 'cancelling'))
  AND NOT (state = 'running' AND rests_since IS NOT NULL)
  AND NOT EXISTS (
      SELECT 1 FROM step
      WHERE step.run_id = run_state.run_id AND step.state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled'))
  AND NOT EXISTS (
      SELECT 1 FROM run AS child JOIN run_state AS below ON below.run_id = child.id
      WHERE child.parent_run = run_state.run_id AND below.state NOT IN ('completed', 'partial', 'failed', 'cancelled'))
ORDER BY random()
LIMIT :limit
