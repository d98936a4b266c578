-- Child runs that have not ended and that no step waits for any more: their run, or only the step, was cancelled or fails.
-- A plain read; a run that is being cancelled already is left.
-- Parameters: run_id (the parent; null for all), limit
SELECT run.id AS run_id, run.parent_run, parent.state, parent.reason FROM run
JOIN run_state ON run_state.run_id = run.id
JOIN run_state AS parent ON parent.run_id = run.parent_run
WHERE run.parent_run IS NOT NULL AND (CAST(:run_id AS uuid) IS NULL OR run.parent_run = CAST(:run_id AS uuid))
  AND run_state.state NOT IN ('completed', 'partial', 'failed', 'cancelled') AND run_state.state <> 'cancelling'
  AND NOT EXISTS (
      SELECT FROM step
      WHERE step.run_id = run.parent_run AND step.key = run.parent_step AND step.state = 'held'
        AND step.reason -> 'detail' ->> 'run' = CAST(run.id AS text))
ORDER BY run.id
LIMIT :limit
