-- A run's steps by state. The caller holds the run, so that what it counts cannot move to a new state of the run.
-- What a foreach made counts for whether the run is over (steps), and not for how it ends (own): the foreach stands for it.
-- A child run that ended partial makes its run partial, wherever it stands.
-- Parameters: run_id
SELECT state, count(*) AS steps, count(*) FILTER (WHERE parent IS NULL) AS own,
       count(*) FILTER (WHERE parent IS NULL AND state = 'skipped' AND reason ->> 'code' = 'when_error') AS broken_conditions,
       count(*) FILTER (WHERE state = 'succeeded' AND (
           parent IS NULL AND reason ->> 'code' = 'items_failed' OR reason ->> 'code' = 'child_ended')) AS partial
FROM step WHERE run_id = :run_id GROUP BY state
