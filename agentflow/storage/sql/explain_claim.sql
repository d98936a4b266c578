-- What a refused claim met; a plain read for the log line and the answer, decides nothing.
-- Parameters: run_id, step_id
SELECT run_state.state AS run_state, run_state.rests_since IS NOT NULL AS is_resting, step.state AS step_state, step.not_before > now() AS is_early, step.reason
FROM step JOIN run_state ON run_state.run_id = step.run_id
WHERE step.id = :step_id AND step.run_id = :run_id
