-- Let a step that waits for a child run be looked at later, since the run could not be started. A plain write under no lock.
-- Parameters: step_id, seconds
-- Keeps true: it is only put off, and only while it is due.
UPDATE step SET not_before = now() + make_interval(secs => :seconds)
WHERE id = :step_id AND state IN ('held') AND reason ->> 'code' = 'awaits_run' AND not_before <= now()
RETURNING id
