-- Make the steps due again that were given back because their run came to rest.
-- Parameters: run_id, codes (text[]: the reasons that are lifted now)
UPDATE step SET not_before = now(), sent_at = NULL, reason = NULL
WHERE run_id = :run_id AND state IN ('ready') AND reason ->> 'code' = ANY(CAST(:codes AS text[]))
RETURNING key
