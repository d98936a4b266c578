-- How many runs below a run, at any depth, have not ended.
-- Parameters: run_id
SELECT count(*) AS open FROM run JOIN run_state ON run_state.run_id = run.id
WHERE run.ancestors IS NOT NULL AND run.ancestors ? CAST(CAST(:run_id AS uuid) AS text)
  AND run_state.state NOT IN ('completed', 'partial', 'failed', 'cancelled')
