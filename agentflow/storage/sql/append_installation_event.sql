-- Link an event behind the head of the installation's own chain. The caller holds the row (lock_installation.sql).
-- Parameters: run_id (the nil id), sequence, at, actor, action, subject, moved, reason, verdict, facts, mac
-- Keeps true: the chain has no fork: the event follows the head that its MAC was made from.
WITH head AS (
    UPDATE installation SET event_sequence = :sequence, event_head = :mac
    WHERE id = 1 AND event_sequence = :sequence - 1
    RETURNING id
)
INSERT INTO audit_event (run_id, step_id, sequence, at, actor, action, subject, moved, reason, verdict, facts, mac)
SELECT :run_id, NULL, :sequence, :at, :actor, :action, :subject, CAST(:moved AS jsonb), CAST(:reason AS jsonb),
       :verdict, CAST(:facts AS jsonb), :mac
FROM head
RETURNING id
