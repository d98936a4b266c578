-- Take back the delivery notes of doorbells that could not be sent, so that the dispatcher sends them.
-- Parameters: step_ids
UPDATE step SET sent_at = NULL
WHERE id = ANY(CAST(:step_ids AS uuid[])) AND sent_at IS NOT NULL
