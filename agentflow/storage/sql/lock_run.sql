-- Take a run's state for oneself: nothing of the run is claimed or settled until this transaction ends.
-- Parameters: run_id
-- Keeps true: the wait is bounded by the transactions that came before. Row locks alone are not fair: those who share a
-- row pass one who waits for it alone. So everybody goes through the run's gate first, which is first come, first served.
WITH gate AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(hashtextextended(CAST(:run_id AS text), 0))
)
SELECT state, reason, round, open_sinks, event_sequence, event_head, exhausted, paused, now() AS at
FROM run_state, gate WHERE run_id = :run_id FOR NO KEY UPDATE OF run_state
