-- How far foreachs of a run have come: how many items each made, and how many of them had their turn.
-- Parameters: run_id, keys
SELECT key, children, coalesce(released, 0) AS released FROM step
WHERE run_id = :run_id AND key = ANY(CAST(:keys AS text[])) AND children IS NOT NULL
