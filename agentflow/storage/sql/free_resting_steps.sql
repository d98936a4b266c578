-- Make the steps due again that were given back when their run came to rest over a budget.
-- Parameters: run_id
UPDATE step SET not_before = now(), sent_at = NULL, reason = NULL
WHERE run_id = :run_id AND state IN ('ready') AND reason ->> 'code' IN ('budget_exhausted', 'budget_contended', 'budget_unsettled')
RETURNING key
