-- Every attempt of a run.
-- Parameters: run_id
SELECT step.key, attempt.number, attempt.state, attempt.worker, attempt.started_at, attempt.ended_at, attempt.exit_code,
       attempt.signal, attempt.reason, attempt.retry_at
FROM attempt JOIN step ON step.id = attempt.step_id
WHERE attempt.run_id = :run_id
ORDER BY attempt.number
