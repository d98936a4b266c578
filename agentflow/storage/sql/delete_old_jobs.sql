-- Forget jobs that ended, but for the newest.
-- Parameters: kept
DELETE FROM job
WHERE state <> 'running' AND id NOT IN (
    SELECT id FROM job WHERE state <> 'running' ORDER BY begun_at DESC, id DESC LIMIT :kept)
