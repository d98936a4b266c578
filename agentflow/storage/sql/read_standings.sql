-- Where steps stand, with the worker of the last attempt and the retries it had behind it; a plain read, decides nothing.
-- Of a step that was only snoozed so far the worker is the one that asked for its ticket: monitors know it from there.
-- Parameters: step_ids
SELECT step.id, step.run_id, step.key, step.action, step.state, step.reason,
       coalesce(last.worker, (
           SELECT substr(actor, length('worker:') + 1) FROM audit_event
           WHERE audit_event.run_id = step.run_id AND audit_event.step_id = step.id AND action = 'snooze'
           ORDER BY sequence DESC LIMIT 1)) AS worker,
       greatest(0, step.failures + step.losses - CAST(coalesce(last.state IN ('failed', 'timed_out', 'lost'), false) AS int)) AS retries
FROM step
LEFT JOIN LATERAL (
    SELECT worker, state FROM attempt WHERE attempt.step_id = step.id ORDER BY number DESC LIMIT 1
) AS last ON true
WHERE step.id = ANY(CAST(:step_ids AS uuid[]))
ORDER BY step.position
