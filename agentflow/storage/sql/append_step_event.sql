-- Link an event behind the head of a step's chain. The caller holds the step.
-- Parameters: run_id, step_id, sequence, at, actor, action, subject, moved, reason, verdict, facts, mac
-- Keeps true: the chain has no fork: the event follows the head that its MAC was made from.
WITH head AS (
    UPDATE step SET event_sequence = :sequence, event_head = :mac
    WHERE id = :step_id AND event_sequence = :sequence - 1
    RETURNING run_id, id
)
INSERT INTO audit_event (run_id, step_id, sequence, at, actor, action, subject, moved, reason, verdict, facts, mac)
SELECT head.run_id, head.id, :sequence, :at, :actor, :action, :subject, CAST(:moved AS jsonb), CAST(:reason AS jsonb),
       :verdict, CAST(:facts AS jsonb), :mac
FROM head
RETURNING id
