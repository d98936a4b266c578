-- Count sinks of a run as final. The caller holds the run for itself (lock_run.sql).
-- Parameters: run_id, count
UPDATE run_state SET open_sinks = open_sinks - :count WHERE run_id = :run_id RETURNING open_sinks
