-- Set an ended run going again in a new round; a running one only gets its sinks counted anew. The caller holds the run.
-- Parameters: run_id, old_state, open_sinks
-- Keeps true: the time since it ended is no active time. What was counted as rest before (up to rested_until) is not
-- counted again; what it rests now, resume_run.sql counts, and what it waited for people, rest_waiting.sql did.
UPDATE run_state
SET state = 'running', reason = NULL, ended_at = NULL, checkpoint = NULL, open_sinks = :open_sinks,
    round = round + CASE WHEN :old_state = 'running' THEN 0 ELSE 1 END,
    exhausted = CASE WHEN :old_state = 'running' THEN exhausted END,
    rests_since = CASE WHEN :old_state = 'running' THEN rests_since END,
    rested_seconds = rested_seconds + CASE
        WHEN :old_state <> 'running' THEN extract(epoch FROM now() - least(ended_at, coalesce(rests_since, ended_at)))
        ELSE 0 END,
    rested_until = CASE WHEN :old_state <> 'running' THEN now() ELSE rested_until END
WHERE run_id = :run_id AND state = :old_state AND :old_state IN ('running', 'partial', 'failed', 'cancelled')
