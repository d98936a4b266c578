-- Admit a run: it is running from the transaction that made it, and rests from then on if it is paused.
-- Parameters: run_id, open_sinks, paused (json text, or null)
INSERT INTO run_state (run_id, state, open_sinks, round, event_sequence, started_at, paused, rests_since)
SELECT :run_id, 'running', :open_sinks, 1, 0, now(), CAST(:paused AS jsonb), CASE WHEN CAST(:paused AS jsonb) IS NOT NULL THEN now() END
