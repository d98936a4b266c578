-- Hold the step and its running attempt if its lease has lapsed (or its worker is known to be gone). Lock order: run, step, attempt.
-- Parameters: step_id, attempt_id, is_known_lost
-- Keeps true: an attempt whose lease was extended meanwhile is left alone. No row: there is nothing to rescue.
WITH held_step AS (
    SELECT id, key, is_sink, failures, losses, joint_losses, postponed, event_sequence, event_head FROM step
    WHERE id = :step_id AND state = 'running' FOR NO KEY UPDATE
)
SELECT held_step.*, attempt.id AS attempt_id, attempt.number, attempt.worker, attempt.is_stop_requested,
       attempt.reserved, attempt.started_at
FROM held_step JOIN attempt ON attempt.step_id = held_step.id
WHERE attempt.id = :attempt_id AND attempt.state = 'running'
  AND (attempt.lease_until < now() OR CAST(:is_known_lost AS boolean))
FOR NO KEY UPDATE OF attempt
