-- Note that a firing cannot be submitted.
-- Parameters: schedule_id, due_at, reason (json text)
-- Keeps true: a firing that has a run keeps it.
UPDATE firing SET state = 'refused', reason = CAST(:reason AS jsonb), noted_at = now()
WHERE schedule_id = :schedule_id AND due_at = :due_at AND state = 'starting'
RETURNING due_at
