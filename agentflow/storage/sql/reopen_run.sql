-- Set an ended run going again in a new round; a running one only gets its sinks counted anew. The caller holds the run.
-- Parameters: run_id, old_state, open_sinks
UPDATE run_state
SET state = 'running', reason = NULL, ended_at = NULL, open_sinks = :open_sinks,
    round = round + CASE WHEN :old_state = 'running' THEN 0 ELSE 1 END
WHERE run_id = :run_id AND state = :old_state AND :old_state IN ('running', 'partial', 'failed', 'cancelled')
