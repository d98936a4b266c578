-- Set the priority of a run among others. The caller holds the run alone (lock_run.sql).
-- Parameters: run_id, priority
WITH old AS (
    SELECT run_id, priority FROM run_state WHERE run_id = :run_id
)
UPDATE run_state SET priority = :priority FROM old WHERE run_state.run_id = old.run_id
RETURNING old.priority
