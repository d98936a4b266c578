-- Put a step off until the time of its ticket, without an attempt. The caller holds the step and found it due (claim_step.sql).
-- Parameters: step_id, until, reason (json text)
UPDATE step SET not_before = :until, ticket_at = :until, sent_at = NULL, reason = CAST(:reason AS jsonb)
WHERE id = :step_id AND state IN ('ready', 'retrying')
