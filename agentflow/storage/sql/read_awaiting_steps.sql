-- Which of some steps await the turn of their item.
-- Parameters: run_id, keys
SELECT key FROM step WHERE run_id = :run_id AND key = ANY(CAST(:keys AS text[])) AND awaits_turn AND state = 'pending'
