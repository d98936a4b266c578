-- Take a run's state for oneself: nothing of the run is claimed or settled until this transaction ends.
-- Parameters: run_id
SELECT state, reason, round, open_sinks, event_sequence, event_head, now() AS at FROM run_state WHERE run_id = :run_id FOR NO KEY UPDATE
