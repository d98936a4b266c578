-- Whether an attempt of a run was lost so recently that its command may still be ending. A plain read.
-- Parameters: run_id, seconds
SELECT 1 FROM attempt
WHERE run_id = :run_id AND state = 'lost' AND ended_at > now() - make_interval(secs => :seconds)
LIMIT 1
