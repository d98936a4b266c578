-- Who holds the places of concurrency keys, since when, and when the place is free if nothing is heard of the holder.
SELECT slot.key, slot.number, attempt.run_id, step.key AS step, attempt.worker, slot.held_since AS since,
       attempt.lease_until AS expires
FROM slot JOIN attempt ON attempt.id = slot.attempt_id JOIN step ON step.id = attempt.step_id
ORDER BY slot.key, slot.number
