-- A run's steps by state. The caller holds the run, so that what it counts cannot move to a new state of the run.
-- Parameters: run_id
SELECT state, count(*) AS steps, count(*) FILTER (WHERE state = 'skipped' AND reason ->> 'code' = 'when_error') AS broken_conditions
FROM step WHERE run_id = :run_id GROUP BY state
