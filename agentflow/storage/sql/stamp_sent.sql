-- Note that a doorbell for these steps is about to be sent (or travels in a chain).
-- Parameters: step_ids
UPDATE step SET sent_at = now()
WHERE id = ANY(CAST(:step_ids AS uuid[])) AND state IN ('ready', 'retrying') AND sent_at IS NULL
RETURNING id
