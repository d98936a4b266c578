-- The last child run that a step started, and how many it started.
-- Parameters: run_id (the parent), step
SELECT run.id, run_state.state, run_state.round, count(*) OVER () AS made
FROM run JOIN run_state ON run_state.run_id = run.id
WHERE run.parent_run = :run_id AND run.parent_step = :step
ORDER BY run.created_at DESC
LIMIT 1
