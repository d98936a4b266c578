-- Take back the delivery notes of doorbells that could not be sent, so that the dispatcher sends them.
-- Parameters: step_ids
-- Keeps true: rows are locked in id order.
WITH noted AS (
    SELECT id FROM step WHERE id = ANY(CAST(:step_ids AS uuid[])) AND sent_at IS NOT NULL
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE step SET sent_at = NULL FROM noted WHERE step.id = noted.id
