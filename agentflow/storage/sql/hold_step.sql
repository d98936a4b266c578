-- Let a pending step wait for a time, a signal, a decision or a child run.
-- Parameters: step_id, reason (json text), due_at (when the dispatcher looks at it, or null)
UPDATE step SET state = 'held', reason = CAST(:reason AS jsonb), not_before = :due_at
WHERE id = :step_id AND state = 'pending'
RETURNING id, key, is_sink
