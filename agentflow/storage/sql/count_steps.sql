-- A run's steps by state. The caller holds the run, so that what it counts cannot move to a new state of the run.
-- What a foreach made counts for whether the run is over (steps), and not for how it ends (own): the foreach stands for it.
-- Parameters: run_id
SELECT state, count(*) AS steps, count(*) FILTER (WHERE parent IS NULL) AS own,
       count(*) FILTER (WHERE parent IS NULL AND state = 'skipped' AND reason ->> 'code' = 'when_error') AS broken_conditions,
       count(*) FILTER (WHERE parent IS NULL AND state = 'succeeded' AND reason ->> 'code' = 'items_failed') AS partial
FROM step WHERE run_id = :run_id GROUP BY state
