-- Hold the step and the running attempt that a claim token names. Lock order: run, step, attempt.
-- Parameters: step_id, claim_token
-- Keeps true: only the holder of the token gets rows back, and only while its attempt runs. None: the claim was lost.
WITH held_step AS (
    SELECT id, key, is_sink, failures, losses, joint_losses, postponed, event_sequence, event_head FROM step
    WHERE id = :step_id AND state = 'running' FOR NO KEY UPDATE
)
SELECT held_step.*, attempt.id AS attempt_id, attempt.number, attempt.worker, attempt.is_stop_requested,
       attempt.reserved, attempt.started_at
FROM held_step JOIN attempt ON attempt.step_id = held_step.id
WHERE attempt.claim_token = :claim_token AND attempt.state = 'running'
FOR NO KEY UPDATE OF attempt
