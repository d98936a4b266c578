-- End a step that neither runs nor is final, as a person says. The caller holds its run alone, and the step.
-- Parameters: step_id, new_state (succeeded or skipped), reason (json text), choice, result (json text or null)
-- Keeps true: no attempt of it runs, and none begins: its doorbell, if one is out, finds it final. An open gate of it is
-- withdrawn.
WITH withdrawn AS (
    UPDATE gate SET state = 'withdrawn', decided_at = now() WHERE step_id = :step_id AND state = 'open'
)
UPDATE step
SET state = :new_state, reason = CAST(:reason AS jsonb), choice = :choice, result = CAST(:result AS jsonb),
    sent_at = NULL, not_before = NULL
WHERE id = :step_id AND state IN ('pending', 'ready', 'retrying', 'held')
RETURNING id
