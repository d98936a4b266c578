-- Let pending steps of a run wait, each for a time, a signal, a decision or a child run. The caller holds the run alone.
-- Parameters: held (json text: array of {id, reason, due_at (when the dispatcher looks at it, or null)})
UPDATE step SET state = 'held', reason = held.reason, not_before = held.due_at
FROM jsonb_to_recordset(CAST(:held AS jsonb)) AS held (id uuid, reason jsonb, due_at timestamptz)
WHERE step.id = held.id AND step.state = 'pending'
RETURNING step.id
