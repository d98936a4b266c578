-- How new the doorbells of a run's steps are in their queues: 1 is the newest. The order is forget_lost_doorbells.sql's.
-- Parameters: run_id
WITH noted AS (
    SELECT id, run_id, row_number() OVER (PARTITION BY queue ORDER BY sent_at DESC, id) AS newness
    FROM step WHERE state IN ('ready', 'retrying') AND sent_at IS NOT NULL
)
SELECT id, newness FROM noted WHERE run_id = :run_id
