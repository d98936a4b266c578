-- The heads of a run's step chains, for its seal.
-- Parameters: run_id
SELECT id, event_sequence, event_head FROM step WHERE run_id = :run_id AND event_sequence > 0 ORDER BY id
