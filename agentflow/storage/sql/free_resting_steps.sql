-- Make the steps due again that were given back because their run came to rest. The caller holds the run alone.
-- Parameters: run_id, codes (text[]: the reasons that are lifted now)
-- Keeps true: rows are locked in id order.
WITH resting AS (
    SELECT id FROM step
    WHERE run_id = :run_id AND state IN ('ready') AND reason ->> 'code' = ANY(CAST(:codes AS text[]))
    ORDER BY id FOR NO KEY UPDATE
)
UPDATE step SET not_before = now(), sent_at = NULL, reason = NULL
FROM resting WHERE step.id = resting.id
RETURNING step.key
