-- The steps of a run in the order of its plan, each with the steps that it needs.
-- Parameters: run_id
SELECT step.key, step.action, step.state, step.reason, step.result, step.attempts, step.not_before, wanted.needs
FROM step
LEFT JOIN (
    SELECT edge.to_step, array_agg(need.key ORDER BY need.position) AS needs
    FROM step AS need JOIN edge ON edge.from_step = need.id
    WHERE need.run_id = :run_id
    GROUP BY edge.to_step
) AS wanted ON wanted.to_step = step.id
WHERE step.run_id = :run_id
ORDER BY step.position
