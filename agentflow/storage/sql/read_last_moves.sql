-- Where the events of a run left each subject that they moved.
-- Parameters: run_id
SELECT DISTINCT ON (moved.subject) moved.subject, moved.states ->> 1 AS state
FROM audit_event, jsonb_each(audit_event.moved) AS moved (subject, states)
WHERE audit_event.run_id = :run_id
ORDER BY moved.subject, audit_event.id DESC
