-- Decide an open gate. The caller holds its run alone.
-- Parameters: id, state (approved, rejected or expired)
-- Keeps true: a gate is decided once.
UPDATE gate SET state = :state, decided_at = now() WHERE id = :id AND state = 'open' RETURNING id
