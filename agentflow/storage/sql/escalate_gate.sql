-- Hand an open gate that nobody decided in time to those whom its terms name for that. The caller holds its run alone.
-- Parameters: id, expires_at
-- Keeps true: it is handed on once.
UPDATE gate SET is_escalated = true, expires_at = :expires_at WHERE id = :id AND state = 'open' AND NOT is_escalated RETURNING id
