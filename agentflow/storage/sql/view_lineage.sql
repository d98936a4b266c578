-- Where a run came from, and which runs came from it, the oldest first: forks, and those that its steps started.
-- Parameters: run_id
SELECT run.forked_from, run.forked_at_step,
       ARRAY(SELECT fork.id FROM run AS fork WHERE fork.forked_from = run.id ORDER BY fork.created_at, fork.id) AS forks,
       run.parent_run, run.parent_step,
       (SELECT jsonb_agg(jsonb_build_object('run', child.id, 'step', child.parent_step) ORDER BY child.created_at, child.id)
        FROM run AS child WHERE child.parent_run = run.id) AS children
FROM run WHERE run.id = :run_id
