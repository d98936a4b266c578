-- The audit events of a run in the order in which they were written.
-- Parameters: run_id, after_id, most (null: all)
-- An id above after_id may be committed later than a higher one: a reader that follows looks back (see events_after).
SELECT event.id, event.run_id, step.key AS step, event.sequence, event.at, event.actor, event.action, event.subject,
       event.moved, event.reason, event.verdict, event.facts
FROM audit_event AS event LEFT JOIN step ON step.id = event.step_id
WHERE event.run_id = :run_id AND event.id > :after_id
ORDER BY event.id
LIMIT CAST(:most AS bigint)
