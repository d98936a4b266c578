-- Share a run's state with other claims and settles; cancel, failing and sinks must wait.
-- Parameters: run_id
-- Keeps true: whoever waits for the run alone is not passed (see the gate in lock_run.sql).
WITH gate AS MATERIALIZED (
    SELECT pg_advisory_xact_lock_shared(hashtextextended(CAST(:run_id AS text), 0))
)
SELECT state, reason, round, open_sinks, event_sequence, event_head, exhausted, paused, now() AS at
FROM run_state, gate WHERE run_id = :run_id FOR SHARE OF run_state
