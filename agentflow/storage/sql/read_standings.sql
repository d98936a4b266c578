-- Where steps stand with the worker of the last attempt; a plain read, decides nothing.
-- Parameters: step_ids
SELECT step.id, step.run_id, step.key, step.action, step.state, step.reason, step.failures + step.losses AS retries,
       last.worker
FROM step
LEFT JOIN LATERAL (SELECT worker FROM attempt WHERE attempt.step_id = step.id ORDER BY number DESC LIMIT 1) AS last ON true
WHERE step.id = ANY(CAST(:step_ids AS uuid[]))
ORDER BY step.position
