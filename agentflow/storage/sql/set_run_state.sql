-- Move a run whose state row the caller holds (lock_run.sql).
-- Parameters: run_id, old_state, new_state, reason (json text or null), closed_sinks, is_final
-- Keeps true: the run moves from the state that was seen under the lock, and from no other. One that is not running rests
-- no more: nothing of it starts anyway.
UPDATE run_state
SET state = :new_state, reason = CAST(:reason AS jsonb), open_sinks = open_sinks - :closed_sinks,
    ended_at = CASE WHEN :is_final THEN now() END,
    exhausted = NULL, paused = NULL, rests_since = NULL,
    rested_seconds = rested_seconds + coalesce(extract(epoch FROM now() - rests_since), 0),
    rested_until = CASE WHEN rests_since IS NOT NULL THEN now() ELSE rested_until END
WHERE run_id = :run_id AND state = :old_state
RETURNING open_sinks
