-- The child runs of a run that have not ended.
-- Parameters: run_id
SELECT run.id FROM run JOIN run_state ON run_state.run_id = run.id
WHERE run.parent_run = :run_id AND run_state.state NOT IN ('completed', 'partial', 'failed', 'cancelled')
ORDER BY run.id
