-- How often a step opened a gate, in all and in one round of its run.
-- Parameters: step_id, run_round
SELECT count(*) AS every, count(*) FILTER (WHERE CAST(facts ->> 'run_round' AS integer) = :run_round) AS in_round
FROM gate WHERE step_id = :step_id
