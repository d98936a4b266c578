-- End a step that the engine held. The caller holds its run alone, and the step.
-- Parameters: step_id, new_state (succeeded, failed or skipped), reason (json text or null), result (json text or null)
-- Keeps true: a gate that was not decided before, in the same transaction, is withdrawn.
WITH withdrawn AS (
    UPDATE gate SET state = 'withdrawn', decided_at = now() WHERE step_id = :step_id AND state = 'open'
)
UPDATE step
SET state = :new_state, reason = CAST(:reason AS jsonb), result = CAST(:result AS jsonb), not_before = NULL
WHERE id = :step_id AND state = 'held'
RETURNING id, key, is_sink
