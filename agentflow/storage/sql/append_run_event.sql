-- Link an event behind the head of a run's own chain. The caller holds the run's state row.
-- Parameters: run_id, sequence, at, actor, action, subject, moved, reason, verdict, facts, mac
-- Keeps true: the chain has no fork: the event follows the head that its MAC was made from.
WITH head AS (
    UPDATE run_state SET event_sequence = :sequence, event_head = :mac
    WHERE run_id = :run_id AND event_sequence = :sequence - 1
    RETURNING run_id
)
INSERT INTO audit_event (run_id, step_id, sequence, at, actor, action, subject, moved, reason, verdict, facts, mac)
SELECT head.run_id, NULL, :sequence, :at, :actor, :action, :subject, CAST(:moved AS jsonb), CAST(:reason AS jsonb),
       :verdict, CAST(:facts AS jsonb), :mac
FROM head
RETURNING id
