-- Where a run came from, and which runs came from it, the oldest first.
-- Parameters: run_id
SELECT run.forked_from, run.forked_at_step,
       ARRAY(SELECT fork.id FROM run AS fork WHERE fork.forked_from = run.id ORDER BY fork.created_at, fork.id) AS forks
FROM run WHERE run.id = :run_id
