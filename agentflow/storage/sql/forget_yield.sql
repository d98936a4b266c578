-- Let the running attempts of a run go on that were asked to give their steps back and have not heard of it yet.
-- Parameters: run_id
-- Keeps true: rows are locked in id order. The caller holds the run alone. What was pushed to a worker meanwhile may have
-- been heard all the same: such an attempt gives its step back, which is due at once, or held where on_lost says so.
WITH asked AS (
    SELECT id FROM attempt WHERE run_id = :run_id AND state = 'running' AND is_yield_requested
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE attempt SET is_yield_requested = false FROM asked
WHERE attempt.id = asked.id
