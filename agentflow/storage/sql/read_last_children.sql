-- The last child runs that steps of a run started, and how many each started. A step that started none is not among them.
-- Parameters: run_id (the parent), keys
SELECT DISTINCT ON (run.parent_step) run.parent_step, run.id, run_state.state, run_state.round,
       count(*) OVER (PARTITION BY run.parent_step) AS made
FROM run JOIN run_state ON run_state.run_id = run.id
WHERE run.parent_run = :run_id AND run.parent_step = ANY(CAST(:keys AS text[]))
ORDER BY run.parent_step, run.created_at DESC
