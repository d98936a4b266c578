-- Admit a run: it is running from the transaction that made it.
-- Parameters: run_id, open_sinks
INSERT INTO run_state (run_id, state, open_sinks, round, event_sequence, started_at)
VALUES (:run_id, 'running', :open_sinks, 1, 0, now())
