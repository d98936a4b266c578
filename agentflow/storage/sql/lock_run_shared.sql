-- Share a run's state with other claims and settles; cancel, failing and sinks must wait.
-- Parameters: run_id
SELECT state, reason, round, open_sinks, event_sequence, event_head, now() AS at FROM run_state WHERE run_id = :run_id FOR SHARE
