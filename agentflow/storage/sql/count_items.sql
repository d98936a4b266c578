-- How many items a foreach has made; the steps of their bodies are not counted.
-- Parameters: run_id, foreach (its key)
SELECT count(*) FROM step
WHERE run_id = :run_id AND parent = CAST(:foreach AS text) AND key = parent || '[' || item || ']'
