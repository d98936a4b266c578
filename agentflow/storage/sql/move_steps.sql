-- Move steps along one legal pair of states.
-- Parameters: step_ids, old_states (array), new_state, reason (json text or null)
-- Keeps true: only steps still in one of the old states move; a moved step has no delivery note; ready means due now.
UPDATE step
SET state = :new_state, reason = CAST(:reason AS jsonb), sent_at = NULL,
    not_before = CASE WHEN :new_state = 'ready' THEN now() END
WHERE id = ANY(CAST(:step_ids AS uuid[])) AND state = ANY(CAST(:old_states AS text[]))
RETURNING id, key, is_sink
