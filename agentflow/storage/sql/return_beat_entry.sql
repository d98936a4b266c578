-- Give a firing of an entry back that could not be sent.
-- Parameters: name, old_run_at, last_run_at
-- Keeps true: only the firing that was taken is given back.
UPDATE beat_entry SET last_run_at = :old_run_at, total_run_count = total_run_count - 1
WHERE name = :name AND last_run_at = :last_run_at
RETURNING name
