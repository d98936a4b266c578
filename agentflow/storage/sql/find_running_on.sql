-- The running attempt of a step, if that worker process has it; a plain read, lock_lapsed_attempt.sql decides.
-- Parameters: step_id, worker
SELECT id, run_id, step_id FROM attempt WHERE state = 'running' AND step_id = :step_id AND worker = :worker
