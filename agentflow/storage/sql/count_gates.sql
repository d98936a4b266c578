-- How often steps opened a gate, in all and in one round of their run. A step that never did is not among them.
-- Parameters: step_ids, run_round
SELECT step_id, count(*) AS every,
       count(*) FILTER (WHERE CAST(facts ->> 'run_round' AS integer) = :run_round) AS in_round
FROM gate WHERE step_id = ANY(CAST(:step_ids AS uuid[]))
GROUP BY step_id
