-- The events above an id, up to another one, in the order of their ids, each with the project of its run (null: it is of no
-- run, or of one that is gone).
-- Parameters: after_id, until_id, project (null: all, also what is of no run), limit
SELECT event.id, event.run_id, step.key AS step, event.sequence, event.at, event.actor, event.action, event.subject,
       event.moved, event.reason, event.verdict, event.facts, run.project
FROM audit_event AS event LEFT JOIN run ON run.id = event.run_id LEFT JOIN step ON step.id = event.step_id
WHERE event.id > :after_id AND event.id <= :until_id
  AND (CAST(:project AS text) IS NULL OR run.project = CAST(:project AS text))
ORDER BY event.id
LIMIT :limit
