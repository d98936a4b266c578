-- Let a run rest because somebody paused it, or change the pause that stands. The caller holds the run alone (lock_run.sql).
-- Parameters: run_id, paused (json text: {actor, why, at, is_hard, scope})
-- Keeps true: a run that rested already keeps the moment since when. Where all of it waited for a person until now, that
-- time is counted as rest here: whoever resumes or retries it no longer knows since when it waited.
WITH waited AS MATERIALIZED (
    SELECT extract(epoch FROM now() - greatest(run_state.rested_until, (
               SELECT max(attempt.ended_at) FROM attempt WHERE attempt.run_id = :run_id))) AS seconds
    FROM run_state
    WHERE run_id = :run_id AND rests_since IS NULL
      AND EXISTS (SELECT FROM step WHERE step.run_id = :run_id AND step.state = 'held')
      AND NOT EXISTS (
          SELECT FROM step WHERE step.run_id = :run_id AND step.state IN ('ready', 'running', 'retrying'))
)
UPDATE run_state
SET paused = CAST(:paused AS jsonb), rests_since = coalesce(rests_since, now()),
    rested_seconds = rested_seconds + coalesce((SELECT seconds FROM waited), 0),
    rested_until = CASE WHEN EXISTS (SELECT FROM waited) THEN now() ELSE rested_until END
WHERE run_id = :run_id AND state IN ('running')
RETURNING rests_since
