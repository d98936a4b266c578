-- The events of a run above an id, up to another one, in the order of their ids, each with the project of the run.
-- Parameters: run_id, after_id, until_id, limit
SELECT event.id, event.run_id, step.key AS step, event.sequence, event.at, event.actor, event.action, event.subject,
       event.moved, event.reason, event.verdict, event.facts, run.project
FROM audit_event AS event LEFT JOIN run ON run.id = event.run_id LEFT JOIN step ON step.id = event.step_id
WHERE event.run_id = :run_id AND event.id > :after_id AND event.id <= :until_id
ORDER BY event.id
LIMIT :limit
