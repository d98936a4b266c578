-- Who holds the places of concurrency keys, since when, and when the place is free if nothing is heard of the holder.
-- Parameters: project (only holders of it; null: any)
SELECT slot.key, slot.number, attempt.run_id, step.key AS step, attempt.worker, slot.held_since AS since,
       attempt.lease_until AS expires
FROM slot JOIN attempt ON attempt.id = slot.attempt_id JOIN step ON step.id = attempt.step_id
JOIN run ON run.id = step.run_id
WHERE CAST(:project AS text) IS NULL OR run.project = CAST(:project AS text)
ORDER BY slot.key, slot.number
