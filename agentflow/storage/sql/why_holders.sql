-- Who holds the places of some concurrency keys.
-- Parameters: keys (text[])
SELECT slot.key, attempt.run_id, step.key AS step, attempt.worker, slot.held_since AS since, attempt.lease_until, run.project
FROM slot JOIN attempt ON attempt.id = slot.attempt_id JOIN step ON step.id = attempt.step_id
JOIN run ON run.id = step.run_id
WHERE slot.key = ANY(CAST(:keys AS text[]))
ORDER BY slot.key, slot.number
