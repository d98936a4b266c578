-- How a run's steps stand, and why.
-- Parameters: run_id
SELECT key, state, reason ->> 'code' AS reason_code FROM step WHERE run_id = :run_id
