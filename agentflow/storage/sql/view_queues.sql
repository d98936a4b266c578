-- What stands in each queue by the rows: doorbells on their way, steps that are due and have none, and the oldest due step.
-- Due is what the claim takes (claim_step.sql): nothing of a run that rests or does not run.
SELECT step.queue, count(*) FILTER (WHERE step.sent_at IS NOT NULL) AS outstanding,
       count(*) FILTER (WHERE step.sent_at IS NULL AND may.start) AS unsent,
       min(step.not_before) FILTER (WHERE may.start) AS oldest_due_at
FROM step JOIN run_state ON run_state.run_id = step.run_id
CROSS JOIN LATERAL (
    SELECT run_state.state = 'running' AND run_state.rests_since IS NULL AND step.not_before <= now() AS start
) AS may
WHERE step.state IN ('ready', 'retrying')
GROUP BY step.queue
ORDER BY step.queue
