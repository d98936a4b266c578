-- Note a job as begun; no row comes back where one of its kind is under way.
-- Parameters: id, kind, asked_by
-- Keeps true: of a kind one job is under way, whichever process does it.
INSERT INTO job (id, kind, state, asked_by, done) VALUES (:id, :kind, 'running', :asked_by, 0)
ON CONFLICT (kind) WHERE state = 'running' DO NOTHING
RETURNING id
