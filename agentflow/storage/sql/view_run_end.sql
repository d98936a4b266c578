-- The id of the last event of a run that has ended; no row while it goes on.
-- Parameters: run_id
SELECT (SELECT max(id) FROM audit_event WHERE run_id = run_state.run_id) AS last_id
FROM run_state WHERE run_id = :run_id AND ended_at IS NOT NULL
