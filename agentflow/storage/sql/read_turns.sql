-- Which of some steps are foreachs that have made their items, and how many.
-- Parameters: run_id, keys
SELECT key, children FROM step
WHERE run_id = :run_id AND key = ANY(CAST(:keys AS text[])) AND children IS NOT NULL
