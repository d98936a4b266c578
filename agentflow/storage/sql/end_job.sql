-- End a job; no row comes back where it was given up.
-- Parameters: id, state, done, total, result (json text or null), problem (json text or null)
-- Keeps true: a job has one end.
UPDATE job
SET state = :state, ended_at = now(), beaten_at = now(), done = :done, total = :total,
    result = CAST(:result AS jsonb), problem = CAST(:problem AS jsonb)
WHERE id = :id AND state = 'running'
RETURNING id
