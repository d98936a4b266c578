-- Say that a job goes on, and how far it has come; no row comes back where it was given up.
-- Parameters: id, done, total
UPDATE job SET beaten_at = now(), done = :done, total = :total WHERE id = :id AND state = 'running' RETURNING id
