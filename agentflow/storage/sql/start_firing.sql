-- Note the run of a firing. Also of one that was refused: then another process had submitted it before.
-- Parameters: schedule_id, due_at, run_id
-- Keeps true: a firing has one run.
UPDATE firing SET state = 'started', run_id = :run_id, reason = NULL, noted_at = now()
WHERE schedule_id = :schedule_id AND due_at = :due_at AND state IN ('starting', 'refused')
RETURNING due_at
