-- The audit events of a run for a timeline, in the order in which they were written: all but those of the actions that are
-- left out, or only those of some, up to a limit. Of the rows that an event moved, how many there are and what became of its own subject.
-- Parameters: run_id, left_out (text[]), only (text[]; null: any), limit
SELECT event.at, event.actor, event.action, event.subject, event.reason, event.verdict, event.facts,
       event.moved -> event.subject ->> 0 AS old, event.moved -> event.subject ->> 1 AS new,
       (SELECT count(*) FROM jsonb_object_keys(event.moved)) AS moved
FROM audit_event AS event
WHERE event.run_id = :run_id AND event.action <> ALL (CAST(:left_out AS text[]))
  AND (CAST(:only AS text[]) IS NULL OR event.action = ANY (CAST(:only AS text[])))
ORDER BY event.id
LIMIT :limit
