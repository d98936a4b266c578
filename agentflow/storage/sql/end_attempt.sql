-- Record how an attempt ended and what its step does next, and free its place if it has one. The caller holds run, step
-- and attempt (lock_attempt.sql); the slot is locked after them, and no claim that holds a slot waits for any of them.
-- Parameters: attempt_id, attempt_state, exit_code, signal, reason (json text or null), step_id, step_state, step_reason (json text or null),
--             delay_seconds, failures, losses, joint_losses, postponed, has_result, result (json text or null), keeps_ticket
-- Keeps true: an attempt ends once; a step leaves running once per attempt; a place is freed in the transaction that ends
-- its holder, and nobody else's is; a step whose attempt came to an end of its own is no suspect any more. keeps_ticket: nothing began that the step's rate counts, so that the step comes
-- back with its ticket, and uses it if it still holds then (claim_step.sql). Every other ticket is gone: none is used twice.
WITH ended AS (
    UPDATE attempt
    SET state = :attempt_state, ended_at = now(), exit_code = :exit_code, signal = :signal, reason = CAST(:reason AS jsonb),
        retry_at = CASE WHEN :step_state = 'retrying' THEN now() + make_interval(secs => :delay_seconds) END
    WHERE id = :attempt_id AND state = 'running'
    RETURNING id, step_id
), freed AS (
    UPDATE slot SET attempt_id = NULL, held_since = NULL FROM ended WHERE slot.attempt_id = ended.id
)
UPDATE step
SET state = :step_state, reason = CAST(:step_reason AS jsonb), exit_code = :exit_code,
    failures = step.failures + :failures, losses = step.losses + :losses,
    joint_losses = CASE WHEN :attempt_state IN ('lost', 'released') THEN step.joint_losses + :joint_losses ELSE 0 END,
    postponed = step.postponed + :postponed,
    result = CASE WHEN :has_result THEN CAST(:result AS jsonb) ELSE step.result END,
    sent_at = NULL,
    ticket_at = CASE WHEN :keeps_ticket AND :step_state = 'ready' THEN step.ticket_at END,
    not_before = CASE WHEN :step_state IN ('ready', 'retrying') THEN now() + make_interval(secs => :delay_seconds) END
FROM ended
WHERE step.id = ended.step_id AND step.state = 'running'
RETURNING step.not_before
