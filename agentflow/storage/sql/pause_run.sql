-- Let a run rest because somebody paused it, or change the pause that stands. The caller holds the run alone (lock_run.sql).
-- Parameters: run_id, paused (json text: {actor, why, at, is_hard, scope})
-- Keeps true: a run that rested already keeps the moment since when. Where all of it waited for people until now, that
-- time was counted as rest before (rest_waiting.sql): whoever resumes it no longer knows since when it waited.
UPDATE run_state
SET paused = CAST(:paused AS jsonb), rests_since = coalesce(rests_since, now())
WHERE run_id = :run_id AND state IN ('running')
RETURNING rests_since
