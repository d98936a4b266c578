-- End pending steps that the engine decided itself, as their needs ended.
-- Parameters: step_ids, new_state (succeeded, failed, skipped or cancelled), reason (json text or null), choice, result (json text or null)
-- Keeps true: only steps that still wait end so, and nothing that a worker could hold does.
UPDATE step
SET state = :new_state, reason = CAST(:reason AS jsonb), choice = :choice, result = CAST(:result AS jsonb)
WHERE id = ANY(CAST(:step_ids AS uuid[])) AND state = 'pending'
RETURNING id, key, is_sink
