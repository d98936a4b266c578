-- Give up jobs whose process gave no sign for too long.
-- Parameters: lost_seconds
-- Keeps true: a job whose process died keeps no other of its kind from beginning.
UPDATE job SET state = 'lost', ended_at = now()
WHERE state = 'running' AND beaten_at < now() - make_interval(secs => :lost_seconds)
