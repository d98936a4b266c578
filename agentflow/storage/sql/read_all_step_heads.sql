-- Where the audit chain of every step of a run stands.
-- Parameters: run_id
SELECT id, key, event_sequence, event_head FROM step WHERE run_id = :run_id ORDER BY position
