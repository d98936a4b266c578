-- Lift a pause, the exhaustion of budgets, or both from a run that rests. The caller holds the run alone (lock_run.sql).
-- Parameters: run_id, lifts_pause, lifts_exhaustion
-- Keeps true: it rests on while something is not lifted; the time in which it rested is no active time.
WITH left_over AS (
    SELECT run_id,
           CASE WHEN NOT CAST(:lifts_exhaustion AS boolean) THEN exhausted END AS exhausted,
           CASE WHEN NOT CAST(:lifts_pause AS boolean) THEN paused END AS paused
    FROM run_state
    WHERE run_id = :run_id AND state IN ('running') AND rests_since IS NOT NULL
)
UPDATE run_state
SET exhausted = left_over.exhausted, paused = left_over.paused,
    rests_since = CASE WHEN left_over.exhausted IS NOT NULL OR left_over.paused IS NOT NULL THEN rests_since END,
    rested_seconds = rested_seconds + CASE
        WHEN left_over.exhausted IS NOT NULL OR left_over.paused IS NOT NULL THEN 0
        ELSE extract(epoch FROM now() - rests_since) END,
    rested_until = CASE
        WHEN left_over.exhausted IS NOT NULL OR left_over.paused IS NOT NULL THEN rested_until ELSE now() END
FROM left_over WHERE run_state.run_id = left_over.run_id
RETURNING run_state.rests_since
