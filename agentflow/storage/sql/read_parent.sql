-- The step that a child run was started by, with what that step waits for; how the child run itself stands,
-- and whether the run above is paused.
-- Parameters: run_id (the child)
SELECT run.parent_run, run.parent_step, run_state.state, run_state.round, step.id AS step_id,
       CASE WHEN step.state = 'held' THEN step.reason END AS reason, coalesce(above.paused IS NOT NULL, false) AS is_paused
FROM run JOIN run_state ON run_state.run_id = run.id
LEFT JOIN run_state AS above ON above.run_id = run.parent_run
LEFT JOIN step ON step.run_id = run.parent_run AND step.key = run.parent_step
WHERE run.id = :run_id AND run.parent_run IS NOT NULL
