-- Hold a step whose run the caller holds.
-- Parameters: step_id
SELECT key, state, is_sink, event_sequence, event_head FROM step WHERE id = :step_id FOR NO KEY UPDATE
